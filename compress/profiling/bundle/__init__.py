"""Models that run where there is no Python: loader, libraries, ONNX Runtime and a small runner, in one folder."""
