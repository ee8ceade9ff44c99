"""A result and all below it as a Workflow Run RO-Crate, provenance run profile 0.5: for archives and other tools."""

from __future__ import annotations

import hashlib
import mimetypes
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from wsss.errors import WsssError
from wsss.files import prepare, write_json
from wsss.provenance.audit import Audit
from wsss.provenance.chain import Link
from wsss.provenance.code import REPOSITORY
from wsss.provenance.place import is_record

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
FORMAT = "https://w3id.org/ro/crate/1.1"
WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
PROFILES = tuple(f"https://w3id.org/ro/wfrun/{name}/0.5" for name in ("process", "workflow", "provenance"))
SNAKEMAKE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
LICENCES = "https://spdx.org/licenses/"
WORKFLOW = "Snakefile"
METADATA = "ro-crate-metadata.json"

Entity = dict[str, Any]


class _Graph:
    """The entities of a crate, each once."""

    def __init__(self) -> None:
        self._entities: dict[str, Entity] = {}

    def add(self, iri: str, kind: str | list[str], /, **properties: Any) -> Entity:
        """Add an entity, unless it is there, and return a reference to it."""
        given = {key: value for key, value in properties.items() if value not in (None, [], "")}
        self._entities.setdefault(iri, {"@id": iri, "@type": kind, **given})
        return {"@id": iri}

    def entities(self) -> list[Entity]:
        return list(self._entities.values())


def write_crate(found: Audit, out: Path, with_files: bool = False) -> Path:
    """Write a crate and return its metadata file.

    Args:
        found: the audit of the target. It must have no findings.
        out: the folder to write to, which must be empty or absent.
        with_files: copy the files as well. Without them each is named by its digest.

    Raises:
        WsssError: the audit has findings, or the folder is in use or cannot be written.
    """
    if found.findings:
        number = f"has findings ({len(found.findings)}), which `wsss audit` shows"
        raise WsssError(f"{found.target}: {number}; only what matches its records is packed")
    prepare(out, folder=True)
    if any(out.iterdir()):
        raise WsssError(f"{out}: is not empty; name a new folder")
    graph = _Graph()
    agents, licence, about = _citation(graph)
    files = _files(found, graph, out if with_files else None)
    jobs = [_job(graph, link, files, agents) for link in found.chain.from_below()]
    workflow = _workflow(graph, found, out, agents, licence)
    run = _run(graph, found, workflow, files, agents, jobs)
    end = max(link.content["ended"] for link in found.chain.links.values())
    graph.add(
        "./",
        "Dataset",
        name=f"{about['title']}: {found.start}",
        description=f"{found.target} and all that it was made from. Content digest {found.content}.",
        datePublished=end,
        license=licence,
        author=agents,
        conformsTo=[_profile(graph, iri) for iri in (*PROFILES, WORKFLOW_CRATE)],
        mainEntity=workflow,
        hasPart=_parts(workflow, files),
        mentions=[run, *jobs],
        identifier=found.root,
    )
    graph.add(METADATA, "CreativeWork", conformsTo=[{"@id": FORMAT}, {"@id": WORKFLOW_CRATE}], about={"@id": "./"})
    write_json(out / METADATA, {"@context": [CONTEXT, TERMS], "@graph": graph.entities()})
    return out / METADATA


def _profile(graph: _Graph, iri: str) -> Entity:
    return graph.add(iri, "CreativeWork", name=iri, version=iri.rpartition("/")[2])


def _parts(workflow: Entity, files: dict[str, Entity]) -> list[Entity]:
    names = dict.fromkeys(entity["@id"] for entity in files.values())
    return [workflow, *({"@id": name} for name in names)]


def _citation(graph: _Graph) -> tuple[list[Entity], Entity, Entity]:
    """Collect agents, licence and the citation file's own words."""
    path = REPOSITORY / "CITATION.cff"
    about: Entity = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    about.setdefault("title", "wsss")
    agents = []
    for number, author in enumerate(about.get("authors") or [{"name": "unknown"}], start=1):
        person = "family-names" in author
        name = f"{author.get('given-names', '')} {author['family-names']}".strip() if person else author["name"]
        identifier = author.get("orcid") or f"#agent-{number}"
        agents.append(graph.add(identifier, "Person" if person else "Organization", name=name))
    named = about.get("license", "MIT")
    licence = graph.add(f"{LICENCES}{named}", "CreativeWork", name=named)
    return agents, licence, about


def _files(found: Audit, graph: _Graph, out: Path | None) -> dict[str, Entity]:
    """Return references to all files that jobs read and made, by their names in records or absolute paths."""
    known: dict[str, Entity] = {}
    for link in found.chain.links.values():
        for part in ("outputs", "inputs", "external"):
            for name, entry in link.content[part].items():
                if name not in known:
                    source = Path(name) if part == "external" else found.chain.place.path(name)
                    known[name] = _file(graph, name, entry, source, out)
    for key, link in found.chain.links.items():
        source = found.chain.place.path(key)
        entry = {"sha256": link.digest, "size": source.stat().st_size}
        known[key] = _file(graph, key, entry, source, out, about={"@id": f"#job/{link.content['identity']}"})
    return known


def _file(graph: _Graph, name: str, entry: Entity, source: Path, out: Path | None, **more: Any) -> Entity:
    identifier = f"urn:sha256:{entry['sha256']}:{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    if out is not None:
        identifier = f"files/{name.lstrip('/')}"
        (out / identifier).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, out / identifier)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return graph.add(
        identifier,
        "File",
        name=name,
        alternateName=name,
        sha256=entry["sha256"],
        contentSize=str(entry["size"]),
        encodingFormat=kind,
        **more,
    )


def _job(graph: _Graph, link: Link, files: dict[str, Entity], agents: list[Entity]) -> Entity:
    """Describe a job as an action."""
    content = link.content
    machine = content["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in content["packages"].items())
    notes = {"device": machine.get("device"), "processor": machine.get("processor"), "packages": packages}
    notes |= {"commit": content["code"]["commit"], "sources": content["code"]["package"], "seed": content["seed"]}
    properties = [
        graph.add(f"#{key}/{content['identity']}", "PropertyValue", name=key, value=str(value))
        for key, value in notes.items()
        if value not in (None, "")
    ]
    return graph.add(
        f"#job/{content['identity']}",
        "CreateAction",
        name=f"{link.command} {link.first}",
        instrument=_tool(graph, link.command),
        object=[*_named(files, [*content["inputs"], *content["external"]]), *properties],
        result=_named(files, content["outputs"]),
        startTime=content["started"],
        endTime=content["ended"],
        agent=agents[0],
        actionStatus={"@id": "http://schema.org/CompletedActionStatus"},
    )


def _named(files: dict[str, Entity], names: Iterable[str]) -> list[Entity]:
    return [files[name] for name in names]


def _tool(graph: _Graph, command: str) -> Entity:
    return graph.add(f"#tool/{command}", "SoftwareApplication", name=f"wsss {command}", softwareVersion="2")


def _workflow(graph: _Graph, found: Audit, out: Path, agents: list[Entity], licence: Entity) -> Entity:
    """Return the workflow, a file of the crate, with one step per command."""
    source = REPOSITORY / WORKFLOW
    text = source.read_text(encoding="utf-8") if source.is_file() else "# The rules are those of the package wsss.\n"
    (out / WORKFLOW).write_text(text, encoding="utf-8")
    commands = list(dict.fromkeys(link.command for link in found.chain.from_below()))
    steps = [
        graph.add(f"#step/{command}", "HowToStep", name=command, position=str(at), workExample=_tool(graph, command))
        for at, command in enumerate(commands)
    ]
    language = graph.add(
        SNAKEMAKE,
        "ComputerLanguage",
        name="Snakemake",
        identifier={"@id": "https://snakemake.github.io"},
        url={"@id": "https://snakemake.github.io"},
    )
    return graph.add(
        WORKFLOW,
        ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
        name="Snakefile",
        programmingLanguage=language,
        creator=agents,
        license=licence,
        step=steps,
        hasPart=[_tool(graph, command) for command in commands],
    )


def _run(
    graph: _Graph, found: Audit, workflow: Entity, files: dict[str, Entity], agents: list[Entity], jobs: list[Entity]
) -> Entity:
    """Return the run of the workflow, and what controlled its jobs."""
    links = found.chain.from_below()
    made = {key for link in links for key in link.content["outputs"]}
    read = (key for link in links for key in [*link.content["inputs"], *link.content["external"]])
    given = [key for key in dict.fromkeys(read) if key not in made and not is_record(key)]
    target = found.chain.links[found.start]
    run = graph.add(
        f"#run/{found.root}",
        "CreateAction",
        name=f"Run of the workflow for {found.start}",
        instrument=workflow,
        object=_named(files, given),
        result=_named(files, target.content["outputs"]),
        startTime=min(link.content["started"] for link in links),
        endTime=max(link.content["ended"] for link in links),
        agent=agents[0],
        actionStatus={"@id": "http://schema.org/CompletedActionStatus"},
    )
    controls = [
        graph.add(
            f"#control/{link.content['identity']}",
            "ControlAction",
            name=f"{link.command} orchestrated",
            instrument={"@id": f"#step/{link.command}"},
            object=job,
        )
        for link, job in zip(links, jobs, strict=True)
    ]
    engine = graph.add("#snakemake", "SoftwareApplication", name="Snakemake", url="https://snakemake.github.io")
    graph.add(
        f"#organize/{found.root}",
        "OrganizeAction",
        name="Snakemake runs the jobs",
        instrument=engine,
        object=controls,
        result=run,
        agent=agents[0],
    )
    return run
