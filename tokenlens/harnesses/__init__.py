"""Other people's evaluation harnesses: their tasks and scores, answered by a pruned model.

`lmms_manifest` is what lmms-eval finds by its entry point, `lmms_model` and `lmms_wrapped` are the
models it then imports; they alone import lmms-eval.
"""
