"""ONNX models: files read with suspicion and written whole; sessions, shapes, costs; the view as a channel graph."""
