"""The weight decay that is prescribed, and trained with."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradaudit
from gradaudit.records import Recipe
from gradaudit.settings import Settings
from tests.remedies.pasted import ids, paste, prescription, remedy
from tests.rules.test_weight_decay import ADAMW, SGD, decaying, rows


def test_the_customary_decay_is_prescribed_and_groups_without_any_keep_it() -> None:
    for recipe, decay in ((replace(SGD, weight_decay=0.5), 1e-4), (ADAMW, 0.01)):
        made = remedy(decaying(recipe), "weight-decay")
        assert prescription(decaying(recipe)).recipe["weight_decay"] == decay
        groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay or 0.0)
        paste(made.code, optimizer=optimizer)
        assert [group["weight_decay"] for group in optimizer.param_groups] == [decay, 0.0]
    assert "weight-decay" not in ids(decaying(Recipe("sgd", 0.1, weight_decay=1e-4)))


def test_where_the_loss_hardly_pulls_less_than_the_customary_is_prescribed() -> None:
    seen = decaying(Recipe("adam", 1e-2, weight_decay=1e-4), parameters=rows(gradient=1e-4))
    assert prescription(seen).recipe["weight_decay"] == pytest.approx(1e-4 * 0.1 / 30, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "lr", "decay"),
    [
        (torch.optim.SGD, 0.1, 1.0),
        (torch.optim.Adam, 1e-3, 1.0),
        (torch.optim.AdamW, 3e-3, 100.0),
    ],
)
def test_a_net_that_decay_holds_down_trains_under_what_is_prescribed(
    kind: type[torch.optim.Optimizer], lr: float, decay: float
) -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 16)
    y = (x @ torch.randn(16, 4)).argmax(1)
    net = nn.Sequential(
        *(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    )
    start = {name: value.clone() for name, value in net.state_dict().items()}
    batches = list(zip(x.split(32), y.split(32), strict=True))

    def trained(code: str) -> float:
        net.load_state_dict(start)
        optimizer = kind(net.parameters(), lr=lr, weight_decay=decay)  # type: ignore[call-arg]
        paste(code, optimizer=optimizer)
        for step in range(600):
            rows, target = batches[step % 8]
            optimizer.zero_grad()
            F.cross_entropy(net(rows), target).backward()
            optimizer.step()
        return F.cross_entropy(net(x), y).item()

    report = gradaudit.audit(
        net,
        batches,
        loss="cross_entropy",
        optimizer=kind(net.parameters(), lr=lr, weight_decay=decay),  # type: ignore[call-arg]
        settings=Settings(effort="quick", threads=1),
    )
    assert "GA607" in {f.code for f in report.findings if f.severity == "fail"}
    assert report.prescription is not None
    found = {each.id: each for each in report.prescription.remedies}
    assert trained("") > 1.0
    assert trained(found["weight-decay"].code) < 0.5
