"""ARM without a board: onnxruntime for aarch64 under QEMU's user mode, set up in the user's cache and counted."""
