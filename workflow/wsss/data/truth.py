"""Which images of a split have no mask: known from lists and folders alone, before there is an index."""

from __future__ import annotations

from pathlib import Path

from wsss.data.ids import Found, Ids, pictures_in, read_list
from wsss.data.settings import Options
from wsss.data.voc import LISTS, inside, voc_folder
from wsss.errors import WsssError

MASKS = {"voc": "SegmentationClass", "folder": None}  # builder -> where its masks are, unless its options say otherwise


def without_mask(config: Options, split: str) -> list[str]:
    """List the images of a split that have no mask.

    Args:
        config: settings of the index. For builders that paint their masks the list is empty.
        split: the name of a list.

    Returns:
        The ids, in the order of the split's list; none if lists or folders cannot be read: the index then says why.
    """
    if config["builder"] not in MASKS or not config.get("root"):
        return []
    folder = config.get("masks", MASKS[config["builder"]])
    try:
        root = voc_folder(config["root"]) if config["builder"] == "voc" else Path(config["root"])
        masks = pictures_in(root, folder, (".png",)) if folder else Found()
        ids = Ids(masks.files)
        names = read_list(
            inside(root / LISTS if config["builder"] == "voc" else root, config["lists"][split]), ids.known
        )
    except (WsssError, OSError, KeyError, TypeError, AttributeError):
        return []
    return [name for name in names if ids.find(name) not in masks.files]
