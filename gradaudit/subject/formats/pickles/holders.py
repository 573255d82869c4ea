"""Classes of plain data that training code leaves in its checkpoints, read as empty stand-ins.

A configuration, a path or a date beside the weights is no reason to run code. Everything on this
exact list is pure data to its own package; here its name stands for a class of ours that takes any
arguments and any state and keeps none of it, so that nothing of the named package is imported or
called. A model that would *use* one needs ``--trust``, see
:mod:`gradaudit.subject.formats.checkpoints.sound`.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import Any


def _each(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Dicts by inheritance: what lies in them is read.
MAPPINGS = _each(
    """
    collections.defaultdict
    pytorch_lightning.utilities.parsing.AttributeDict
    lightning.pytorch.utilities.parsing.AttributeDict
    lightning_fabric.utilities.data.AttributeDict lightning.fabric.utilities.data.AttributeDict
    easydict.EasyDict addict.addict.Dict munch.Munch munch.DefaultMunch dotmap.DotMap box.box.Box
    yacs.config.CfgNode fvcore.common.config.CfgNode detectron2.config.config.CfgNode
    mmcv.utils.config.ConfigDict mmengine.config.config.ConfigDict
    """
)
SEQUENCES = _each("collections.deque")
OBJECTS = _each(
    """
    argparse.Namespace types.SimpleNamespace functools.partial typing.Any random.Random
    builtins.dict builtins.list builtins.tuple builtins.str builtins.int builtins.float
    builtins.bool builtins.bytes builtins.range builtins.type builtins.object
    collections.ChainMap collections.UserDict collections.UserList
    pathlib.Path pathlib.PosixPath pathlib.WindowsPath
    pathlib.PurePath pathlib.PurePosixPath pathlib.PureWindowsPath
    pathlib._local.Path pathlib._local.PosixPath pathlib._local.WindowsPath
    pathlib._local.PurePath pathlib._local.PurePosixPath pathlib._local.PureWindowsPath
    datetime.datetime datetime.date datetime.time datetime.timedelta datetime.timezone
    zoneinfo.ZoneInfo._unpickle decimal.Decimal fractions.Fraction uuid.UUID uuid.SafeUUID
    omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig omegaconf.base.SCMode
    omegaconf.base.ContainerMetadata omegaconf.base.Metadata omegaconf.nodes.ValueNode
    omegaconf.nodes.AnyNode omegaconf.nodes.StringNode omegaconf.nodes.IntegerNode
    omegaconf.nodes.FloatNode omegaconf.nodes.BooleanNode omegaconf.nodes.EnumNode
    omegaconf.nodes.BytesNode omegaconf.nodes.PathNode omegaconf.nodes.InterpolationResultNode
    ml_collections.config_dict.config_dict.ConfigDict
    ml_collections.config_dict.config_dict.FrozenConfigDict
    ml_collections.config_dict.config_dict.FieldReference
    mmengine.config.config.Config mmengine.logging.history_buffer.HistoryBuffer
    numpy.dtype numpy.ndarray numpy.core.multiarray._reconstruct numpy._core.multiarray._reconstruct
    numpy.core.multiarray.scalar numpy._core.multiarray.scalar numpy._core.numeric._frombuffer
    numpy.core.numeric._frombuffer
    numpy.float64 numpy.float32 numpy.float16 numpy.int64 numpy.int32 numpy.int16 numpy.int8
    numpy.uint64 numpy.uint32 numpy.uint16 numpy.uint8 numpy.bool numpy.bool_ numpy.str_
    numpy.random._pickle.__randomstate_ctor numpy.random._pickle.__generator_ctor
    numpy.random._pickle.__bit_generator_ctor
    numpy.random.bit_generator.SeedSequence
    numpy.random.bit_generator.__pyx_unpickle_SeedSequence
    numpy.random._mt19937.MT19937 numpy.random._pcg64.PCG64
    packaging.version.Version packaging._structures.InfinityType
    packaging._structures.NegativeInfinityType torch.torch_version.TorchVersion
    torch.amp.grad_scaler.GradScaler torch.cuda.amp.grad_scaler.GradScaler
    torch.amp.grad_scaler._refresh_per_optimizer_state
    torch.cuda.amp.grad_scaler._refresh_per_optimizer_state
    torch.optim.adadelta.Adadelta torch.optim.adagrad.Adagrad torch.optim.adam.Adam
    torch.optim.adamw.AdamW torch.optim.adamax.Adamax torch.optim.asgd.ASGD torch.optim.lbfgs.LBFGS
    torch.optim.nadam.NAdam torch.optim.radam.RAdam torch.optim.rmsprop.RMSprop
    torch.optim.rprop.Rprop torch.optim.sgd.SGD torch.optim.sparse_adam.SparseAdam
    torch.optim.lr_scheduler.ConstantLR torch.optim.lr_scheduler.CosineAnnealingLR
    torch.optim.lr_scheduler.CosineAnnealingWarmRestarts torch.optim.lr_scheduler.CyclicLR
    torch.optim.lr_scheduler.ExponentialLR torch.optim.lr_scheduler.LambdaLR
    torch.optim.lr_scheduler.LinearLR torch.optim.lr_scheduler.MultiStepLR
    torch.optim.lr_scheduler.OneCycleLR torch.optim.lr_scheduler.PolynomialLR
    torch.optim.lr_scheduler.ReduceLROnPlateau torch.optim.lr_scheduler.SequentialLR
    torch.optim.lr_scheduler.StepLR
    pytorch_lightning.callbacks.early_stopping.EarlyStopping
    pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint
    lightning.pytorch.callbacks.early_stopping.EarlyStopping
    lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint
    sklearn.preprocessing._data.StandardScaler sklearn.preprocessing._data.MinMaxScaler
    sklearn.preprocessing._data.RobustScaler sklearn.preprocessing._label.LabelEncoder
    """
)
HOLDERS = OBJECTS | MAPPINGS | SEQUENCES


class Holder:
    """Stands where a file names a class of plain data: takes anything, keeps and does nothing."""

    name = ""  # the class the file asked for

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """An object without attributes, whatever it is called with."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        """Drops the state."""


class _MappingHolder(Holder):
    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()  # of the types that torch lets a pickle put entries into


class _SequenceHolder(Holder):
    def __new__(cls, *_: Any, **__: Any) -> Any:
        return []


@cache
def holder_classes() -> dict[str, type[Holder]]:
    """Full pickled name -> the class that stands for it."""
    bases = ((OBJECTS, Holder), (MAPPINGS, _MappingHolder), (SEQUENCES, _SequenceHolder))
    return {
        name: type(base.__name__, (base,), {"name": name})
        for names, base in bases
        for name in sorted(names)
    }
