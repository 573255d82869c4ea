"""ONNX's operators by family; every module here registers its functions when imported."""
