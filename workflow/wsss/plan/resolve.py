"""How a run's complete configuration comes about.

    defaults.yaml <- methods/<method>.yaml <- data set <- data set, this method <- the paper's run
                  <- data set, this run <- command line

Mappings merge key by key, all else is replaced (so are schedules, mappings from epochs). A key that the left side does
not have is an error that names it. DeepLab's settings are then completed by the preset that ``segment.preset`` names,
sizes shrunk and networks replaced as the data set says.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path

from wsss.errors import WsssError
from wsss.files import read_yaml
from wsss.plan import stages
from wsss.segment import presets

PACKAGE = Path(__file__).parent.parent
# "run:<paper>/<run>" is the model that run trained, "run:<run>" one of the same paper, "run:" the own classifier
REFERENCE = "run:"
PIXEL_KEYS = {"crop", "long_side", "translation"}  # sizes that shrink with the images of a small data set


@functools.cache
def _package_yaml(name: str) -> dict:
    return read_yaml(PACKAGE / name)


def methods() -> list[str]:
    """Names of all methods, those with a settings file."""
    return sorted(path.stem for path in (PACKAGE / "methods").glob("*.yaml"))


def method_settings(method: str) -> dict:
    """Stage defaults with the released settings of ``method`` on top."""
    if method not in methods():
        raise WsssError(f"unknown method '{method}': choose one of {', '.join(methods())}")
    settings = merge(
        _package_yaml("defaults.yaml"), _package_yaml(f"methods/{method}.yaml"), f"{method}.yaml", new_keys=True
    )
    settings["method"] = {"name": method, **settings.get("method", {})}
    return settings


def merge(base: dict, over: dict, source: str, path: str = "", *, new_keys: bool = False) -> dict:
    """A copy of ``base`` with ``over`` on top; ``source`` names the file or key that ``over`` comes from in errors."""
    merged = copy.deepcopy(base)
    for key, value in (over or {}).items():
        where = f"{path}{key}"
        if key not in base and not new_keys:
            raise WsssError(f"{source}: unknown key '{where}': choose one of {', '.join(map(str, base))}")
        if isinstance(value, str) and type(base.get(key)) in (int, float):
            hint = "YAML reads 2e-3 as text: 2.0e-3; and Snakemake numbers inside of --config: use --configfile"
            raise WsssError(f"{source}: '{where}' is a number, not the text '{value}' ({hint})")
        if isinstance(value, dict) and isinstance(base.get(key), dict) and not any(isinstance(k, int) for k in value):
            merged[key] = merge(base[key], value, source, f"{where}.", new_keys=new_keys)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def resolve(dataset: str, spec: dict, run: dict, source: str, *over: tuple[str, dict]) -> dict:
    """The complete configuration of one run, every section, without its seed.

    Args:
        dataset: name of the data set.
        spec: its entry in ``config.yaml`` (``overrides``, ``methods``, ``stand_ins``, ``pixels``).
        run: the paper's entry: ``method`` (a name, or a mapping with ``name``) and overrides per section.
        source: names the paper file in errors.
        over: what the configuration says over the paper, and where: key and overrides per section.
    """
    method = run.get("method", "cam")
    options = {} if isinstance(method, str) else {k: v for k, v in method.items() if k != "name"}
    name = method if isinstance(method, str) else method["name"]
    overrides = {
        **{k: v for k, v in run.items() if k not in ("method", "note")},
        **({"method": options} if options else {}),
    }

    config = method_settings(name)
    config = merge(config, spec.get("overrides"), f"configuration, datasets.{dataset}.overrides")
    config = merge(config, spec.get("methods", {}).get(name), f"configuration, datasets.{dataset}.methods.{name}")
    config = merge(config, overrides, source)
    for key, settings in over:
        method = (settings or {}).get("method") or {}
        if isinstance(method, str) or "name" in method:
            raise WsssError(f"configuration, {key}.method: which method a run has is for its paper to say")
        config = merge(config, settings, f"configuration, {key}")
    for stage, keys in stages.TRAININGS.items():
        if str(stages.official_weights(stage, config)).startswith(REFERENCE):
            raise WsssError(f"{source}: {'.'.join(keys)}.weights takes a file of official weights, not another run")
    config["crf"]["alphas"] = learnable(config["crf"]["alphas"], config["affinity"])
    config = shrink(presets.resolve(config), spec.get("pixels", 1.0))
    return stand_in(config, spec.get("stand_ins", {}))


def learnable(alphas: list[float], affinity: dict) -> list[float]:
    """The CRF's exponents with the two that AffinityNet learns from, which a data set's own list may lack."""
    return sorted({*alphas, affinity["low_alpha"], affinity["high_alpha"]})


def shrink(value, factor: float):
    """``value`` with every pixel size in it multiplied by ``factor`` and rounded."""
    if factor == 1.0 or not isinstance(value, dict):
        return value

    def scaled(size):
        return [scaled(s) for s in size] if isinstance(size, list) else size and round(size * factor)

    return {k: scaled(v) if k in PIXEL_KEYS else shrink(v, factor) for k, v in value.items()}


def stand_in(value, table: dict):
    """``value`` with every ``backbone`` mapping whose name is in ``table`` overlaid by that entry.

    A small data set trains small networks: where a paper says ResNet38d, its runs still differ in what they compare.
    An entry that names another network replaces the mapping: keys it does not give are that network's own, for what
    was said of the old one (``freeze`` lists its modules) does not hold for the new.
    """
    if not isinstance(value, dict):
        return value
    replaced = {k: stand_in(v, table) for k, v in value.items()}
    backbone = replaced.get("backbone")
    if isinstance(backbone, dict) and backbone.get("name") in table:
        trained_here = str(backbone.get("weights")).startswith(REFERENCE)
        kept = {"weights": backbone["weights"]} if trained_here else {}
        entry = table[backbone["name"]]
        base = backbone if entry.get("name", backbone["name"]) == backbone["name"] else dict.fromkeys(backbone)
        replaced["backbone"] = {**base, **entry, **kept}
    return replaced
