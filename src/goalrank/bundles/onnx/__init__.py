"""One ONNX graph that gives a bundle's lists: export, check and run."""
