"""The malicious samples that picklescan 1.0.5 and fickling 0.1.12 publish with their tests.

Only which functions their samples ask for, and in what shape, is taken from there; each payload is
written anew, with the canary as its effect where it has one of its own choosing.
"""

from __future__ import annotations

import io
import marshal
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.hostile.cases_pickles import laughs, laughs_by_memo
from tests.hostile.harness import Case, Place
from tests.hostile.opcodes import (
    BUILD,
    CODES,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    MARK,
    OBJ,
    POP,
    REDUCE,
    STACK_GLOBAL,
    called,
    legacy,
    named,
    raw,
    stacked,
    text,
    torch_zip,
    value,
    whole,
)

Body = Callable[[Place], bytes]


def calling(name: str, *arguments: object, protocol: int = 2) -> Body:
    """One call; ``{command}``, ``{code}`` and ``{canary}`` in texts are the place's own."""

    def body(place: Place) -> bytes:
        return whole(called(name, *_filled(arguments, place)), protocol)

    return body


def _filled(arguments: object, place: Place) -> object:
    if isinstance(arguments, str):
        for word in ("command", "code", "canary"):
            arguments = arguments.replace("{" + word + "}", str(getattr(place, word)))
        return arguments
    if isinstance(arguments, (tuple, list)):
        return type(arguments)(_filled(item, place) for item in arguments)
    return arguments


def by_stack(name: str, *arguments: object) -> Body:
    """The same with the global's two names on the stack (protocol 4)."""
    return lambda place: whole(stacked(name) + value(_filled(arguments, place)) + REDUCE, 4)


def method(name: str, *arguments: object) -> Body:
    """A method of a class that is asked for by a dotted name, called on nothing in particular."""
    return by_stack(name, None, *arguments)


def _compiled(place: Place) -> bytes:
    """compile, globals, dict, apply, getattr and eval of Python 2, one after the other."""
    code = called("__builtin__ compile", place.code, "x", "eval")
    names = called("__builtin__ globals")
    got = called("__builtin__ getattr", named("__builtin__ dict"), "get")
    found = called("__builtin__ apply", got, (names, "__builtins__"))
    return whole(found + POP + named("__builtin__ eval") + value((code,)) + REDUCE)


def _imported_by_attribute(place: Place) -> bytes:
    """operator.attrgetter("system")(__import__("os"))(command)."""
    getter = called("operator attrgetter", "system")
    found = getter + value((called("builtins __import__", "os"),)) + REDUCE
    return whole(found + value((place.command,)) + REDUCE)


def _method_caller(place: Place) -> bytes:
    caller = called("_operator methodcaller", "system", place.command)
    return whole(caller + value((called("builtins __import__", "os"),)) + REDUCE)


def _located(place: Place) -> bytes:
    found = called("pydoc locate", "os.system")
    return whole(found + value((place.command,)) + REDUCE)


def _resolved(place: Place) -> bytes:
    return whole(called("pkgutil resolve_name", "os:system") + value((place.command,)) + REDUCE)


def _imported_module(place: Place) -> bytes:
    module = called("importlib import_module", "os")
    return whole(called("builtins getattr", module, "system") + value((place.command,)) + REDUCE)


def _library(place: Place) -> bytes:
    library = called("ctypes CDLL", None)
    found = called("builtins getattr", library, "system")
    return whole(found + value((raw(place.command.encode()),)) + REDUCE, 3)


def _interpreted(place: Place) -> bytes:
    made = called("code InteractiveInterpreter")
    run = called("builtins getattr", made, "runsource")
    return whole(run + value((place.code,)) + REDUCE)


def _marshalled(place: Place) -> bytes:
    code = marshal.dumps(compile(place.code, "x", "exec"))
    made = called("types FunctionType", called("marshal loads", raw(code)), {})
    return whole(made + EMPTY_TUPLE + REDUCE, 3)


def _code_type(place: Place) -> bytes:
    raw_code = compile(place.code, "x", "exec").co_code
    return whole(called("types CodeType", 0, 0, 0, 0, 8, 64, raw(raw_code), (), (), ()), 3)


def _cloudpickled(place: Place) -> bytes:
    home = "cloudpickle.cloudpickle"
    cell = called(f"{home} _make_cell", called(f"{home} _make_empty_cell"))
    kind = called(f"{home} _builtin_type", "CodeType")
    function = called(f"{home} _make_function", kind, {}, "f", (), (cell,))
    module = called(f"{home} subimport", "os")
    done = called(f"{home} _function_setstate", function, ({"module": module}, {}))
    return whole(done)


def _spawned(place: Place) -> bytes:
    parts = (raw(b"/bin/sh"), [raw(b"/bin/sh"), raw(b"-c"), raw(place.command.encode())], ())
    return whole(called("multiprocessing.util spawnv_passfds", *parts), 3)


def _module_override(place: Place) -> bytes:
    """sys.modules is exchanged: later names are looked up in what the file put there."""
    modules = stacked("sys modules") + CODES["BINPUT"] + b"\1" + POP
    state = CODES["BINGET"] + b"\1" + value({"sys": CODES["BINGET"] + b"\1"})
    return whole(modules + state + BUILD + POP + called("os system", place.command), 4)


def _nested_loads(home: str) -> Body:
    def body(place: Place) -> bytes:
        content = whole(called("os system", place.command))
        return whole(called(f"{home} loads", raw(content)), 3)

    return body


def _memo_of_nothing(place: Place) -> bytes:
    """STACK_GLOBAL whose module stands in a memo entry that nobody wrote, behind a real call."""
    real = called("os system", place.command) + POP
    return whole(real + CODES["BINGET"] + b"\x63" + text("os") + STACK_GLOBAL, 4)


def _type_confusion(place: Place) -> bytes:
    real = called("os system", place.command) + POP
    return whole(real + value(42) + text("os") + STACK_GLOBAL, 4)


def _invalid_bytes(place: Place) -> bytes:
    """A payload, and after it bytes that are no pickle."""
    return _from_memo(place) + b"\n\n\t\t"


def _from_memo(place: Place) -> bytes:
    """The names come out of the memo, where harmless ones lie beside them."""
    names = b"".join(
        text(name) + CODES["BINPUT"] + bytes([index]) + POP
        for index, name in enumerate(("torch", "LongStorage", "os", "system"))
    )
    asked = CODES["BINGET"] + b"\2" + CODES["BINGET"] + b"\3" + STACK_GLOBAL
    return whole(names + asked + value((place.command,)) + REDUCE, 4)


def _debugged(place: Place) -> bytes:
    """Bdb().run by getattr, as protocol 2 writes a method."""
    method = called("__builtin__ getattr", named("bdb Bdb"), "run")
    return whole(method + value((called("bdb Bdb"), place.code)) + REDUCE)


def _eval_by_getattr(place: Place) -> bytes:
    """eval is got from a module that merely happens to have it."""
    found = called("builtins getattr", called("builtins __import__", "builtins"), "eval")
    return whole(found + value((place.code,)) + REDUCE, 4)


def _pop_mark(place: Place) -> bytes:
    """What is put together under a mark goes with it; the call has been made by then."""
    return whole(MARK + called("builtins eval", place.code) + CODES["POP_MARK"] + CODES["NONE"], 4)


def _alphabet(place: Place) -> bytes:
    """Module and name are picked letter by letter with operator.itemgetter."""
    letters = "metsyo"
    get = called("operator itemgetter", 5, 2)
    word = get + value((letters,)) + REDUCE
    joined = called("builtins getattr", "", "join") + value((word,)) + REDUCE
    return whole(joined + text("system") + STACK_GLOBAL + value((place.command,)) + REDUCE, 4)


def _obj(place: Place) -> bytes:
    return MARK + named("os system") + text(place.command) + OBJ + b"."


PICKLESCAN: dict[str, Body] = {
    "malicious0": _compiled,
    "malicious1_v0": calling("__builtin__ eval", "{code}", protocol=0),
    "malicious1_v3": calling("builtins eval", "{code}", protocol=3),
    "malicious1_v4": by_stack("builtins eval", "{code}"),
    "malicious2_v0": calling("posix system", "{command}", protocol=0),
    "malicious2_v3": calling("posix system", "{command}", protocol=3),
    "malicious2_v4": by_stack("posix system", "{command}"),
    "malicious3": calling("httplib HTTPSConnection", "example.invalid"),
    "malicious4": calling("requests.api get", "https://example.invalid"),
    "malicious5": calling("aiohttp.client ClientSession"),
    "malicious6": lambda place: (
        whole(value(["a", "b"])) + whole(called("requests.api get", "https://example.invalid"))
    ),
    "malicious7": calling("socket create_connection", ("127.0.0.1", 9)),
    "malicious8": calling("subprocess run", ["touch", "{canary}"]),
    "malicious9": calling("sys exit", 0),
    "malicious10": lambda place: MARK + text(place.code) + CODES["INST"] + b"__builtin__\nexec\n.",
    "malicious11": _from_memo,
    "malicious12": _imported_by_attribute,
    "malicious13a": _nested_loads("pickle"),
    "malicious13b": _nested_loads("_pickle"),
    "malicious14": calling("runpy _run_code", "{code}", {}),
    "malicious15a": _debugged,
    "malicious15b": lambda place: whole(
        stacked("bdb Bdb.run") + value((called("bdb Bdb"), place.code)) + REDUCE, 4
    ),
    "malicious16": calling("pip main", ["install", "nothing", "--no-input"], protocol=0),
    "malicious17": calling(
        "torch._inductor.codecache compile_file", "", "", ["sh", "-c", "{command}"]
    ),
    "malicious18": calling("pydoc pipepager", "", "{command}"),
    "malicious19": lambda place: whole(
        called("functools partial", named("torch.serialization load"), str(place.canary))
        + EMPTY_TUPLE
        + REDUCE
    ),
    "malicious20": calling("venv create", "{canary}", False, False, True, False, "$({command})"),
    "malicious21": calling("timeit timeit", "{code}"),
    "malicious22": calling("numpy.testing._private.utils runstring", "{code}", {}),
    "malicious23": by_stack("os system", "{command}"),
    "malicious-invalid-bytes": _invalid_bytes,
    "broken_model": lambda place: whole(called("builtins exec", place.code))[:-1] + b"X.",
    "sys_module_override_sploit": _module_override,
    "importlib_bypass": _imported_module,
    "marshal_bypass": _marshalled,
    "io_FileIO": calling("_io FileIO", "{canary}", "w"),
    "urllib_request_urlopen": calling("urllib.request urlopen", "http://127.0.0.1:9"),
    "logging_FileHandler": calling("logging FileHandler", "{canary}"),
    "types_CodeType": _code_type,
    "cloudpickle_codeinjection": _cloudpickled,
    "keyerror-exploit": _memo_of_nothing,
    "type-confusion-exploit": _type_confusion,
    "GHSA-4r9r-ch6f-vxmx": calling("torch.utils.bottleneck.__main__ run_cprofile", "{code}", {}),
    "GHSA-86cj-95qr-2p4f": method("torch._dynamo.guards GuardBuilder.get", "{code}"),
    "GHSA-f4x7-rfwp-v3xw": method(
        "torch.fx.experimental.symbolic_shapes ShapeEnv.evaluate_guards_expression", "{code}", ()
    ),
    "GHSA-f745-w6jp-hpxx": calling("torch.utils.collect_env run", "{command}"),
    "GHSA-jhph-76pp-mggw": lambda place: whole(
        called(
            "torch.utils.collect_env run_and_read_all",
            named("torch.utils.collect_env run"),
            place.command,
        )
    ),
    "GHSA-h3qp-7fh3-f8h4": calling(
        "torch.utils.data.datapipes.utils.decoder basichandlers", "pickle", b"N"
    ),
    "GHSA-vr7h-p6mm-wpmh": calling(
        "torch.jit.unsupported_tensor_ops execWrapper", "{code}", {}, {}
    ),
    "GHSA-vv6j-3g6g-2pvj": method("torch.utils._config_module ConfigModule.load_config", b"N"),
    "GHSA-5qwp-399c-mjwf": method("trace Trace.run", "{code}"),
    "GHSA-g344-hcph-8vgg": method("trace Trace.runctx", "{code}"),
    "GHSA-x696-vm39-cp64": method("profile Profile.run", "{code}"),
    "GHSA-6vqj-c2q5-j97w": method("profile Profile.runctx", "{code}", {}, {}),
    "GHSA-f54q-57x4-jg88": method("lib2to3.pgen2.grammar Grammar.loads", b"N"),
    "GHSA-3vg9-h568-4w9m": method("idlelib.debugobj ObjectTreeItem.SetText", "{code}"),
    "GHSA-6w4w-5w54-rjvr": method("idlelib.autocomplete AutoComplete.get_entity", "{code}"),
    "GHSA-7cq8-mj8x-j263": method(
        "idlelib.autocomplete AutoComplete.fetch_completions", "{code}", 0
    ),
    "GHSA-cj3c-v495-4xqh": method("code InteractiveInterpreter.runcode", "{code}"),
    "GHSA-8r4j-24qv-fmq9": method("idlelib.calltip Calltip.fetch_tip", "{code}"),
    "GHSA-9xph-j2h6-g47v": calling("idlelib.calltip get_entity", "{code}"),
    "GHSA-4whj-rm5r-c2v8": calling(
        "torch.utils.bottleneck.__main__ run_autograd_prof", "{code}", {}
    ),
    "GHSA-xp4f-hrf8-rxw7": calling("ensurepip _run_pip", ["--version"]),
    "GHSA-p9w7-82w4-7q8m": method("lib2to3.pgen2.pgen ParserGenerator.make_label", "{code}"),
    "GHSA-m869-42cg-3xwr": method("idlelib.run Executive.runcode", "{code}"),
    "GHSA-j343-8v2j-ff7w": method("idlelib.pyshell ModifiedInterpreter.runcommand", "{code}"),
    "GHSA-3gf5-cxq9-w223": method("idlelib.pyshell ModifiedInterpreter.runcode", "{code}"),
    "GHSA-fqq6-7vqf-w3fg": calling("doctest debug_script", "{code}"),
    "GHSA-9w88-8rmg-7g2p": calling("cProfile runctx", "{code}", {}, {}),
    "GHSA-49gj-c84q-6qm9": calling("cProfile run", "{code}"),
    "GHSA-7wx9-6375-f5wh": calling("profile run", "{code}"),
    "GHSA-q77w-mwjj-7mqx": method(
        "asyncio.unix_events _UnixSubprocessTransport._start", ["touch", "{canary}"]
    ),
    "GHSA-jgw4-cr84-mqxg": method(
        "asyncio.unix_events _UnixSubprocessTransport._start", "{command}", True
    ),
    "GHSA-m273-6v24-x4m4": calling("distutils.file_util write_file", "{canary}", ["x"]),
    "GHSA-4675-36f9-wf6r": _library,
    "GHSA-84r2-jw7c-4r5q": lambda place: whole(
        called("operator methodcaller", "system", place.command)
        + value((called("pydoc locate", "os"),))
        + REDUCE
    ),
    "GHSA-vqmv-47xg-9wpr": calling("pty spawn", ["touch", "{canary}"]),
    "GHSA-r8g5-cgf2-4m4m": calling("numpy.f2py.crackfortran getlincoef", "{code}", {}),
    "GHSA-955r-x9j8-7rhh": _method_caller,
    "GHSA-46h3-79wf-xr6c": lambda place: _imported_by_attribute(place).replace(
        b"operator", b"_operator"
    ),
    "GHSA-9m3x-qqw2-h32h": _eval_by_getattr,
    "GHSA-vvpj-8cmc-gx39": _resolved,
    "GHSA-g38g-8gr9-h9xp-uuid": calling("uuid _get_command_stdout", "touch", "{canary}"),
    "GHSA-g38g-8gr9-h9xp-osx-support": calling("_osx_support _read_output", "{command}"),
    "GHSA-g38g-8gr9-h9xp-aix-support": calling("_aix_support _read_cmd_output", "{command}"),
    "GHSA-g38g-8gr9-h9xp-imaplib": calling("imaplib IMAP4_stream", "{command}"),
    "GHSA-g38g-8gr9-h9xp-pyrepl-pager": calling("_pyrepl.pager pipe_pager", "x", "{command}"),
    "GHSA-g38g-8gr9-h9xp-test": calling(
        "test.support.script_helper assert_python_ok", "-c", "{code}"
    ),
}
FICKLING: dict[str, Body] = {
    **{
        f"{name}, protocol {index % 6}": calling(name, *arguments, protocol=index % 6)
        for index, (name, arguments) in enumerate(
            {
                "os system": ("{command}",),
                "os popen": ("{command}",),
                "os execv": ("/bin/sh", ["/bin/sh", "-c", "{command}"]),
                "subprocess call": (["touch", "{canary}"],),
                "subprocess Popen": (["touch", "{canary}"],),
                "subprocess check_output": (["touch", "{canary}"],),
                "builtins compile": ("{code}", "x", "exec"),
                "builtins __import__": ("os",),
                "socket socket": (),
                "runpy run_path": ("{canary}",),
                "runpy run_module": ("os",),
                "code InteractiveInterpreter": (),
                "code InteractiveConsole": (),
                "ctypes.util find_library": ("c",),
                "importlib.util find_spec": ("os",),
                "posixpath join": ("/", "tmp"),
                "types FunctionType": (),
                "sys modules": (),
            }.items()
        )
    },
    "missing pty": lambda p: whole(
        stacked("pty spawn") + value(("id",)) + REDUCE + text("gottem") + BUILD, 4
    ),
    "missing pty, by OBJ": lambda p: MARK + named("pty spawn") + text("id") + OBJ + b".",
    "missing marshal and types": _marshalled,
    "missing cProfile": by_stack("cProfile run", "{code}"),
    "missing ctypes": _library,
    "missing pydoc": _located,
    "missing importlib": _imported_module,
    "missing code": _interpreted,
    "missing multiprocessing": _spawned,
    "pop mark": _pop_mark,
    "obj": _obj,
    "stack global from an alphabet": _alphabet,
    "billion laughs": lambda p: laughs(9, 10),
    "billion laughs by memo": lambda p: laughs_by_memo(10, 10),
    "memo expansion": lambda p: whole(
        EMPTY_LIST + CODES["BINPUT"] + b"\0" + (CODES["BINGET"] + b"\0" + CODES["APPEND"]) * 200
    ),
    "numpy's runstring": calling("numpy.testing._private.utils runstring", "{code}", {}),
    "unused assignment": lambda p: whole(called("os system", p.command) + POP + EMPTY_DICT),
}


def _zip(body: Body, name: str = "model.pt") -> Callable[[Place], Path]:
    return lambda place: torch_zip(place.files / name, body(place))


def _plain_zip(place: Place, change: Callable[[bytearray], None] = lambda _: None) -> Path:
    """``data.pkl`` in an archive that is none of torch's, with something about it changed."""
    path = place.files / "malicious1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", whole(called("builtins eval", place.code)))
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    return path


def _flag(bit: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[6] |= bit
        content[content.index(b"PK\1\2") + 8] |= bit

    return change


def _checksum(content: bytearray) -> None:
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 16, 7)


def _renamed(content: bytearray) -> None:
    at = content.index(b"data.pkl", content.index(b"PK\1\2"))
    content[at : at + 8] = b"data.txt"


def _magic_bypass(place: Place) -> Path:
    """The old format's first pickle is an eval that gives the magic number."""
    path = legacy(place.files / "model.pt", whole(called("posix system", place.command)))
    magic = whole(called("__builtin__ eval", str(0x1950A86A20F9469CFC6C)))
    content = path.read_bytes()
    path.write_bytes(magic + content[content.index(b".") + 1 :])
    return path


def _seven_zip(place: Place) -> Path:
    (place.files / "model.pt").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(64))
    return place.files / "model.pt"


def _object_array(*, zipped: bool) -> Callable[[Place], Path]:
    """A numpy array of objects: a pickle behind numpy's header."""

    def make(place: Place) -> Path:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.array([None], dtype=object), allow_pickle=True)
        content = buffer.getvalue()
        head = content[: content.index(b"\n") + 1]
        evil = head + whole(called("ssl get_server_certificate", ("127.0.0.1", 9)))
        path = place.files / ("model.npz" if zipped else "model.npy")
        if zipped:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a.npy", evil)
        else:
            path.write_bytes(evil)
        return path

    return make


FILES: dict[str, Callable[[Place], Path]] = {
    "malicious1.zip": _plain_zip,
    "malicious1_0x1.zip": lambda place: _plain_zip(place, _flag(0x1)),
    "malicious1_0x20.zip": lambda place: _plain_zip(place, _flag(0x20)),
    "malicious1_0x40.zip": lambda place: _plain_zip(place, _flag(0x40)),
    "malicious1_central_directory.zip": lambda place: _plain_zip(place, _renamed),
    "malicious1_crc.zip": lambda place: _plain_zip(place, _checksum),
    "malicious1_wrong_ext.zip": _zip(PICKLESCAN["malicious1_v3"], "model.txt"),
    "malicious1.7z": _seven_zip,
    "pytorch_magic_bypass.pt": _magic_bypass,
    "object_array.npy": _object_array(zipped=False),
    "object_arrays.npz": _object_array(zipped=True),
    **{
        f"extension bypass {suffix}": _zip(FICKLING["missing cProfile"], f"model{suffix}")
        for suffix in (".bin", ".pth", "", ".txt", ".safetensors", ".onnx", ".json")
    },
}


def cases() -> tuple[Case, ...]:
    found = [Case(f"picklescan {name}", _zip(body), "") for name, body in PICKLESCAN.items()]
    found += [Case(f"fickling {name}", _zip(body), "") for name, body in FICKLING.items()]
    return (*found, *(Case(f"file {name}", make, "") for name, make in FILES.items()))
