"""What Lightning writes."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.kinds.kind import CODE, Kind, data, net


def lightning_file(
    path: Path, hyper_parameters: dict[str, Any], batches: int = 0
) -> dict[str, torch.Tensor]:
    """Written by Lightning's own trainer after ``batches`` steps of AdamW; gives the weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of its own dependencies' age
        lightning = pytest.importorskip("pytorch_lightning", reason="Lightning is not installed")

        class Module(lightning.LightningModule):
            def __init__(self, **hyper_parameters: Any) -> None:
                super().__init__()
                self.save_hyperparameters()
                self.net = net()

            def training_step(self, batch: Any, _: int) -> torch.Tensor:
                x, y = batch
                return torch.nn.functional.mse_loss(self.net(x), y)

            def configure_optimizers(self) -> Any:
                optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.05)
                schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
                return {"optimizer": optimizer, "lr_scheduler": schedule}

        module = Module(**hyper_parameters)
        trainer = lightning.Trainer(
            max_epochs=1, limit_train_batches=batches, accelerator="cpu", logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
            default_root_dir=path.parent,
        )  # fmt: skip
        sample = data()
        pairs = torch.utils.data.TensorDataset(sample["x"], sample["y"])
        trainer.fit(module, torch.utils.data.DataLoader(pairs, 32))
        trainer.save_checkpoint(path, weights_only=False)
    return module.net.state_dict()


def lightning(folder: Path) -> Path:
    (folder / "net.py").write_text(CODE)
    lightning_file(folder / "model.ckpt", {"args": argparse.Namespace(lr=1e-3, root=folder)})
    return folder / "model.ckpt"


KINDS = (
    Kind("Lightning `.ckpt`", lightning, "Lightning checkpoint", measured=("weights",), order=10),
    Kind("Lightning `.ckpt`, `--build`", lightning, "Lightning checkpoint",
         options=("--build", "net.py:build"), data=data, order=11),
)  # fmt: skip
