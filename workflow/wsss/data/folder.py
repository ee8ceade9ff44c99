"""``builder: folder``: any images with a table of labels. A new data set needs no code."""

from __future__ import annotations

from pathlib import Path

from wsss.data import labels as read
from wsss.data.ids import Found, Ids, pictures_in, understood
from wsss.data.index import Dataset
from wsss.data.settings import SHARED, Options, known, lists_of, megapixels_of, names_of, path_of, roles_of, text_of
from wsss.data.verify import UNLABELLED, Entry, indexed
from wsss.data.voc import inside, listed
from wsss.errors import WsssError


def build(config: Options, out_dir: Path) -> Dataset:
    """Index a folder of images.

    Options; paths start from ``root``, but ``labels`` and ``lists`` may also lie elsewhere:
        root: the folder of the data set.
        images: folder; sub-folders are part of the ids, suffixes are not.
        labels: CSV with ``id`` and one 0/1 column per class, or ``id`` and ``labels`` joined by ";"; or a
            ``cls_labels.npy``, a dict from id to 0 or 1 per class; or null, for test images.
        lists: split -> text file of ids.
        masks: folder of PNGs with 0 background, c + 1 class, 255 ignore; or null.
        unmasked: splits whose images need no mask.
        megapixels: size above which an image is refused, in millions of pixels; 8.
        classes: names in the order of the mask values; null: the columns of the CSV or, if there are no masks, the
            names in it, sorted.
    """
    optional: Options = {"images": "images", "labels": "labels.csv", "masks": None, "unmasked": [], "classes": None}
    settings = known(config, ("root", "lists"), {**optional, **SHARED})
    root = Path(text_of(settings, "root"))
    given = names_of(settings, "classes")
    lists = lists_of(settings)
    labelled = [split for split in lists if split != UNLABELLED]
    if settings["labels"] is None and labelled:
        raise WsssError(
            f"data set '{config['name']}': option 'labels' is null, and only test images need none; name the table "
            f"with the labels of split '{labelled[0]}'"
        )
    table = None if settings["labels"] is None else inside(root, text_of(settings, "labels"))
    columns, of_table = _read_labels(table, given)
    of_masks = path_of(settings, "masks")
    if not (given or columns) and of_masks:
        raise WsssError(
            f"{table}: names of classes have no order, which the masks' values need; "
            "give 'classes' in the options of the data set"
        )
    classes = given or columns or read.names(of_table)
    images = pictures_in(root, text_of(settings, "images"))
    masks = pictures_in(root, of_masks, (".png",)) if of_masks else Found()
    ids = Ids(images.files, settings["images"])
    splits, findings = listed(root, lists, ids)
    needing = [i for i, of_image in splits.items() if set(of_image) != {UNLABELLED}]
    labels = understood(table, of_table, ids, needing)
    exempt = {*names_of(settings, "unmasked"), UNLABELLED}
    of_mask = Ids(masks.files)

    entries = []
    for image_id, of_image in splits.items():
        if image_id not in images.files:
            findings.append(images.absence(image_id, root / settings["images"]))
            continue
        mask = masks.files.get(of_mask.find(image_id))
        if of_masks and mask is None and not set(of_image) <= exempt:
            if image_id in masks.others:
                findings.append(masks.absence(image_id, root / of_masks, "the mask of image"))
            else:
                findings.append(f"{root / of_masks}: image '{image_id}' has no mask; add its splits to 'unmasked'?")
        entries.append(Entry(image_id, images.files[image_id], mask, tuple(of_image), labels.get(image_id)))
    findings += images.twice + masks.twice
    return indexed(config["name"], classes, root, entries, findings, roles_of(settings), megapixels_of(settings))


def _read_labels(table: Path | None, given: list[str]) -> tuple[list[str] | None, read.Labels]:
    """Read the labels of images, and the classes in order where the file says them."""
    if table and table.suffix != ".npy":
        return read.from_csv(table, given)
    if not given:
        what = f"{table}: has no" if table else "without labels there are no"
        raise WsssError(f"{what} names of classes; give 'classes' in the options of the data set")
    return None, read.from_npy(table, given) if table else {}
