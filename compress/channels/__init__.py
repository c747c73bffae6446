"""How channels travel through a network, in ONNX operator terms, over numpy alone.

`trace(graph)` labels every tensor of a graph; from the labels follow the groups of coupled channels (what criteria
score and masks zero), the channels that nothing needs (what `compact` and `rewrite` remove), and their cost.
"""
