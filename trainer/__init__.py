"""What happens to a recipe: it is read and checked (recipe), built (experiment), run (engine, stages) and kept (run_folder)."""
