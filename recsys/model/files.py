"""The names of the files of a trained model."""

from typing import Final

WEIGHTS_FILE: Final = "weights.safetensors"
CONFIG_FILE: Final = "config.json"
VOCABULARY_FILE: Final = "vocabulary.json"
ITEMS_FILE: Final = "items.jsonl"
HISTORIES_FILE: Final = "histories.json"
TRAINING_FILE: Final = "training.json"
SECOND_STAGE_FILE: Final = "second_stage.txt"
RANKING_TABLES_FILE: Final = "ranking_tables.safetensors"
METRICS_FILE: Final = "metrics.json"
