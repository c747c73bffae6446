"""ONNX models: files read with suspicion and written whole, sessions, shapes, costs, and the view as a channel graph."""
