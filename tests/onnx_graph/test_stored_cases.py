from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from gradaudit.onnx_graph.loading import load_onnx
from tests.onnx_graph.node_cases import failures
from tests.onnx_graph.stored_cases import KINDS, light_networks, stored_cases, with_weights


@pytest.mark.parametrize("kind", KINDS)
def test_stored_models_give_their_stored_outputs(kind):
    cases = stored_cases(kind)
    assert len(cases) >= {"simple": 23, "pytorch-converted": 82, "pytorch-operator": 35}[kind]
    assert not failures(cases)


def theirs(model, given):
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, given)
    return found


def image(model, fill):
    """By name, the input that is no initializer."""
    own = {each.name for each in model.graph.initializer}
    (declared,) = (each for each in model.graph.input if each.name not in own)
    shape = [each.dim_value for each in declared.type.tensor_type.shape.dim]
    return {declared.name: fill(shape)}


def ramp(shape):
    """What the stored outputs were computed from."""
    size = np.prod(shape)
    return (np.arange(size).reshape(shape) / size).astype(np.float32)


def noise(shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def ours(model, given):
    with torch.no_grad():
        return load_onnx(model)(*map(torch.from_numpy, given.values())).numpy()


@pytest.mark.parametrize("path", light_networks(), ids=lambda path: path.stem)
def test_light_networks_give_their_stored_outputs(path):
    model = onnx.load(path)
    stored = onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb"))
    found = ours(model, image(model, ramp))
    np.testing.assert_allclose(found, numpy_helper.to_array(stored), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("path", light_networks(), ids=lambda path: path.stem)
def test_light_networks_of_drawn_weights_are_onnxruntimes(path):
    model = with_weights(onnx.load(path))
    given = image(model, noise)
    expected = theirs(model, given)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(ours(model, given), expected, rtol=1e-3, atol=1e-6)
