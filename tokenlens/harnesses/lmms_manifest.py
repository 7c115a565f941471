"""What lmms-eval learns of tokenlens by the entry point `lmms_eval.models`.

Read at every start of lmms-eval, so it imports no torch and no model.
"""

from lmms_eval.models.registry_v2 import ModelManifest

MANIFESTS = (
    ModelManifest(
        model_id="tokenlens",
        simple_class_path="tokenlens.harnesses.lmms_model.TokenlensModel",
    ),
    ModelManifest(
        model_id="tokenlens_wrapped",
        simple_class_path="tokenlens.harnesses.lmms_wrapped.WrappedModel",
    ),
)
"""`tokenlens` asks as tokenlens does; `tokenlens_wrapped` prunes a model of lmms-eval's own."""
