"""Which names a refusal marks as known from attacks."""

from __future__ import annotations

import pytest

from gradaudit.subject.formats.pickles.dangers import is_dangerous

KNOWN = (
    "os.system", "posix.system", "nt.system", "subprocess.Popen", "builtins.eval",
    "__builtin__.eval", "builtins.exec", "builtins.getattr", "builtins.__import__",
    "runpy._run_code", "operator.attrgetter", "_operator.methodcaller", "importlib.import_module",
    "socket.create_connection", "urllib.request.urlopen", "requests.api.get", "webbrowser.open",
    "pip._internal.cli.main.main", "pickle.loads", "_pickle.loads",
    "torch.storage._load_from_bytes",
    "torch.load", "torch.hub.load", "torch.jit.unsupported_tensor_ops.execWrapper",
    "numpy.testing._private.utils.runstring", "numpy.f2py.crackfortran.getlincoef",
    "types.CodeType", "types.FunctionType", "pty.spawn", "timeit.timeit", "cProfile.runctx",
    "code.InteractiveInterpreter.runcode", "doctest.debug_script", "pydoc.pipepager",
    "torch._inductor.codecache.compile_file", "torch.utils.collect_env.run", "shutil.rmtree",
    "idlelib.pyshell.ModifiedInterpreter.runcode", "ctypes.CDLL", "uuid._get_command_stdout",
    "cloudpickle.cloudpickle._make_function", "functools.reduce", "builtins.eval.__call__",
)  # fmt: skip
UNKNOWN = (
    "__main__.Net", "argparse.Namespace", "pathlib.PosixPath", "collections.OrderedDict",
    "torch.nn.modules.linear.Linear", "numpy.dtype", "ultralytics.nn.tasks.DetectionModel",
    "datetime.datetime", "uuid.UUID", "ostrich.Neck", "mypickle.Layer", "codebook.VQ", "os2.Net",
    "builtins.set", "types.SimpleNamespace", "", ".", "\x1b[31m.os",
)  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_from_attacks(name: str) -> None:
    assert is_dangerous(name)


@pytest.mark.parametrize("name", UNKNOWN, ids=repr)
def test_not_known_from_attacks(name: str) -> None:
    assert not is_dangerous(name)
