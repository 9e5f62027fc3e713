"""Floor 7: recipes: functions from the facts of a data set to a postponed model and its stages."""
