"""From a checkpoint's tensors to an ONNX graph, FP32 or static INT8."""
