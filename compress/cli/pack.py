"""`compress pack`: an ONNX file, Huffman coded."""

from __future__ import annotations

from typing import Annotated

import typer

from compress.cli.options import Json, Model, Output

IndexBits = Annotated[int, typer.Option(min=1, max=12, help="Bits of a step between nonzeros, before coding.")]


def pack(
    model: Model,
    output: Output,
    conv_index_bits: IndexBits = 8,
    linear_index_bits: IndexBits = 5,
    as_json: Json = False,
) -> None:
    """Pack an ONNX file with shared weights, for storage and transfer.

    `compress quantize --format deep-compression` shares weights; `compress unpack` gives back the same file, bit for
    bit.
    """
    from compress.coding.verb import pack_file
    from compress.console import print_json, print_line, print_table, working

    with working("packing"):
        packed = pack_file(model, output, conv_index_bits=conv_index_bits, linear_index_bits=linear_index_bits)
    if as_json:
        print_json(packed.to_dict())
        return
    rows = (
        (
            tensor.name,
            f"{tensor.weights:,}",
            f"{tensor.nonzeros / tensor.weights:.1%}",
            f"{tensor.value_bits:.2f} ({tensor.value_entropy_bits:.2f})",
            f"{tensor.index_bits:.2f} ({tensor.index_entropy_bits:.2f})",
            f"{tensor.ratio:.1f}",
        )
        for tensor in packed.tensors
    )
    columns = ("weights of", "count", "nonzero", "value bits (entropy)", "index bits (entropy)", "float32 / packed")
    print_table(f"{output}: bits a weight", columns, rows)
    share = len(packed.data) / packed.file_bytes
    print_line(
        f"{packed.file_bytes:,} → {len(packed.data):,} bytes ({share:.1%}), {packed.rest_bytes:,} of them not words"
    )
    print_line(f"unpacked and compared: SHA-256 {packed.sha256}")
