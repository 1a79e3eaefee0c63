"""Lists from one exported ONNX graph."""
