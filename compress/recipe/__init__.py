"""A recipe: everything that decides what a run produces, as one validated TOML file.

Unknown keys are refused with the nearest known one; every default stands here, beside its description, and in
`docs/recipe.md`, which is made from this package.
"""

from compress.recipe.base import MethodSettings, Settings
from compress.recipe.budget import Budget
from compress.recipe.deploying import ExportSettings, ProfileSettings, QuantizeSettings, RewriteSettings
from compress.recipe.inputs import DataSettings, ModelSettings
from compress.recipe.load import OPTIONS, load_budget, load_recipe, load_settings, validate
from compress.recipe.pruning import PruneSettings, ScheduleSettings
from compress.recipe.training import DistillSettings, RetrainSettings, ShareSettings, TrainSettings
from compress.recipe.whole import Recipe

__all__ = [
    "OPTIONS",
    "Budget",
    "DataSettings",
    "DistillSettings",
    "ExportSettings",
    "MethodSettings",
    "ModelSettings",
    "ProfileSettings",
    "PruneSettings",
    "QuantizeSettings",
    "Recipe",
    "RetrainSettings",
    "RewriteSettings",
    "ScheduleSettings",
    "Settings",
    "ShareSettings",
    "TrainSettings",
    "load_budget",
    "load_recipe",
    "load_settings",
    "validate",
]
