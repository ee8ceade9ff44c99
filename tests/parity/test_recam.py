"""ReCAM against the numbers of the release: class maps, both losses and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import load, weights_of

from wsss.backbones.naming import KINDS
from wsss.backbones.weights import load_official
from wsss.data.transforms import normalise, to_tensor
from wsss.methods.recam import ReCam, class_features, soft_masks
from wsss.plan.resolve import method_settings

C = 20


@pytest.fixture(scope="module")
def golden() -> dict:
    return load("recam")


def documented(golden: dict) -> dict[str, torch.Tensor]:
    """The release's two files as one, under official names: IRN's classifier, and the predictor beside it.

    Both are made by the rule of README_seam_psa_irn, section 2; the file says under which name the predictor is drawn.
    """
    classifier = load("irn_cam")
    key, scale = str(golden["predictor_key"]), float(golden["predictor_scale"])
    entry = f'["{key}", [20, 2048, 1, 1], "float32", "conv_weight", "{key}", {scale}]'
    predictor = weights_of({"weight_keys_json": np.array(f"[{entry}]")})
    return weights_of(classifier) | {"predictor.weight": predictor[key]}


def recam(golden: dict, **method) -> ReCam:
    config = method_settings("recam")
    built = ReCam(config | {"method": config["method"] | method}, C)
    report = load_official(built, documented(golden), KINDS["irn_cam"], "documented weights")
    assert report.missing == report.unexpected == []
    return built


def inputs(golden: dict) -> torch.Tensor:
    return torch.stack([to_tensor(normalise(image)) for image in golden["images"]])


def close(actual, expected, tolerance: float) -> None:
    actual = actual.detach().numpy() if isinstance(actual, torch.Tensor) else actual
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("shown", "tolerance"), [("product", 2e-6), ("classifier", 1e-4), ("predictor", 1e-4)])
@torch.no_grad()
def test_class_maps(golden, shown, tolerance):
    method, image = recam(golden, shown=shown).eval(), inputs(golden)[0]
    maps = method.localize(torch.stack([image, image.flip(-1)]))
    close(maps, golden[f"maps_{shown}"], tolerance)
    if shown == "product":
        close(F.relu(maps[0]) + F.relu(maps[1]).flip(-1), golden["pair_product"], tolerance)


@torch.no_grad()
def test_soft_masks_and_class_features(golden):
    method = recam(golden).train()
    features = method.backbone(inputs(golden))["conv6"]
    masks = soft_masks(method.fc8(features))
    close(masks, golden["soft_maps"], 2e-4)  # a map whose maximum is near 0 is divided by it
    close(class_features(features, masks)[:, :, ::64], golden["features_sub"], 1e-4)


def test_training_step(golden):
    method, labels = recam(golden).train(), torch.from_numpy(golden["labels"])
    assert not labels[-1].any()  # an image without any class is among them
    batch = {"image": inputs(golden), "labels": labels}
    losses = method.losses(batch, "classifier", None)
    close(losses["bce"], golden["loss_cls"], 5e-6)
    close(losses["sce"], golden["loss_ce"], 5e-6)
    sum(losses.values()).backward()
    official = {KINDS["irn_cam"].official(name): p for name, p in method.named_parameters()}
    official[str(golden["predictor_key"])] = official.pop("predictor.weight")
    close(official["classifier.weight"].grad[:, ::32, 0, 0], golden["grad_classifier_sub"], 3e-5)
    close(official[str(golden["predictor_key"])].grad[:, ::32, 0, 0], golden["grad_predictor_sub"], 5e-6)
    norms = [official[name].grad.double().norm().item() for name in golden["grad_names"].tolist()]
    np.testing.assert_allclose(norms, golden["grad_norms_f64"], rtol=1e-4)
    trained = {name for name, p in official.items() if p.grad is not None}
    assert trained == set(golden["names_with_grad"].tolist())
    assert set(official) - trained == set(golden["names_without_grad"].tolist())


def test_learning_rates_are_the_release_s(golden):
    """0.0005 for the predictor, a tenth of it for all else, and weight decay for all."""
    method, optimizer = recam(golden), method_settings("recam")["train"]["optimizer"]
    names = {id(p): name for name, p in method.named_parameters()}
    rates = {
        names[id(p)]: (optimizer["lr"] * group["lr_scale"], optimizer["weight_decay"] * group["decay_scale"])
        for group in method.parameter_groups("classifier")
        for p in group["params"]
    }
    assert rates.pop("predictor.weight") == pytest.approx((0.0005, 0.0001))
    assert all(rate == pytest.approx((0.00005, 0.0001)) for rate in rates.values())
    assert len(rates) == len(golden["names_with_grad"]) - 1
