"""Names that a pickle asks for in order to attack; they word a refusal, and decide nothing.

What may be read is decided by the exact list in :mod:`gradaudit.subject.formats.pickles.allowed`;
a name that is missing here is refused just the same. Which names attacks have used, and which ways
lead around lists of them, is public knowledge gathered by picklescan (its scanner's list and its
advisories) and by fickling (its lists of unsafe imports), and here put together anew.
"""

from __future__ import annotations

from gradaudit.records.contents import GlobalEntry


def _each(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Whole modules, with all below them: nothing in them is a model's data.
_MODULES = _each(
    """
    os posix nt posixpath ntpath sys subprocess _posixsubprocess commands popen2 pty tty pexpect
    platform signal _signal resource syslog
    code codeop runpy marshal compileall py_compile ast symtable _xxsubinterpreters _interpreters
    importlib imp _imp _frozen_importlib _frozen_importlib_external pkgutil zipimport site gc
    inspect unittest test doctest pydoc idlelib lib2to3 _pyrepl rlcompleter readline
    bdb pdb cProfile profile timeit trace tracemalloc faulthandler
    operator _operator
    socket _socket ssl _ssl socketserver http httplib urllib urllib2 urllib3 requests aiohttp httpx
    asyncio webbrowser xmlrpc smtplib smtpd imaplib ftplib poplib telnetlib nntplib cgi wsgiref
    select selectors mmap
    ctypes _ctypes cffi _cffi_backend
    pickle _pickle cPickle pickletools dill cloudpickle joblib shelve jsonpickle
    shutil tempfile filecmp fileinput glob linecache tarfile zipfile sqlite3 _sqlite3 dbm
    distutils setuptools venv ensurepip pip
    threading _thread dummy_threading multiprocessing concurrent sched atexit
    _osx_support _aix_support uuid difflib
    numpy.f2py numpy.distutils numpy.testing numpy.ctypeslib
    torch.hub torch.jit torch._dynamo torch._inductor torch.package torch.utils.cpp_extension
    torch.utils.bottleneck torch.utils.collect_env torch.multiprocessing
    torch.distributed.elastic torch.distributed.rpc
    picklescan fickling modelscan modelaudit
    """
)
# In modules that hold harmless things too.
_NAMES = _each(
    """
    builtins.eval builtins.exec builtins.execfile builtins.compile builtins.open builtins.file
    builtins.getattr builtins.setattr builtins.delattr builtins.__import__ builtins.apply
    builtins.breakpoint builtins.input builtins.raw_input builtins.globals builtins.locals
    builtins.vars builtins.map builtins.filter builtins.help builtins.memoryview builtins.exit
    builtins.quit builtins.__build_class__
    types.CodeType types.FunctionType types.MethodType types.ModuleType types.LambdaType
    types.new_class types.coroutine
    functools.partial functools.partialmethod functools.reduce
    io.open io.open_code io.FileIO _io.open _io.open_code _io.FileIO codecs.open
    logging.FileHandler logging.config logging.handlers
    copyreg.add_extension weakref.finalize
    copy._reconstruct
    collections.namedtuple dataclasses.make_dataclass typing.get_type_hints
    numpy.load numpy.save numpy.savez numpy.savetxt numpy.loadtxt numpy.genfromtxt numpy.fromfile
    numpy.memmap numpy.lib.npyio.load
    pandas.read_pickle pandas.eval pandas.io.pickle.read_pickle pandas.core.computation.eval.eval
    torch.load torch.save torch.compile torch.storage._load_from_bytes torch.serialization.load
    torch.serialization._load torch.serialization._legacy_load
    torch.load_library torch.ops.load_library torch._ops.load_library
    torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression
    torch.utils._config_module.ConfigModule torch.utils.data.datapipes.utils.decoder.basichandlers
    torch.export.load torch.distributed.checkpoint.format_utils.dcp_to_torch_save
    tensorflow.io.read_file tensorflow.io.write_file tensorflow.keras.models.load_model
    keras.models.load_model keras.src.saving.saving_lib.load_model
    """
)
# What training code does pickle of the modules above.
_HARMLESS = frozenset(
    {
        "multiprocessing.managers.Namespace",
        "os.PathLike",
        "platform.uname_result",
        "signal.Signals",
        "sys.version_info",
        "uuid.SafeUUID",
        "uuid.UUID",
    }
)
_PYTHON_2 = {"__builtin__": "builtins", "__builtins__": "builtins", "copy_reg": "copyreg"}


def is_dangerous(name: str) -> bool:
    """Whether ``name``, a global as ``module.name``, is known to run commands, code or requests.

    A method of a listed class counts as the class does.
    """
    first, dot, rest = name.partition(".")
    name = f"{_PYTHON_2.get(first, first)}{dot}{rest}"
    if name in _HARMLESS:
        return False
    parts = name.split(".")
    upper = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return not upper.isdisjoint(_NAMES) or not upper.isdisjoint(_MODULES)


def entry_for(name: str, *, allowed: bool) -> GlobalEntry:
    """A global of a pickle as ``inspect`` lists it; ``allowed`` is what the exact list says."""
    if allowed:
        return GlobalEntry(name, "allowed")
    return GlobalEntry(name, "dangerous" if is_dangerous(name) else "unlisted")
