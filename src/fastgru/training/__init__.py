"""Training on Lightning: one way through it for every task, and a package for each task.

How to add a task `name`:

1. The model: a subclass of `fastgru.models.pretrained.Pretrained` with a config dataclass.
2. `training/name/__init__.py`, light (torch and Lightning are imported inside of methods, for the commands' sake):
   a frozen dataclass that extends `options.TrainOptions` with `task = "name"`, each field annotated with its
   `typer.Option`; and a `task.Task` subclass, whose docstring is the command's help. `training/classify` is the model.
3. `training/name/module.py`: a `module.TaskModule`; it has the averaged weights, the seeding and the optimiser already.
   `training/name/batches.py`: a LightningDataModule whose order is a function of the seed and the epoch alone.
4. The task's line in `tasks.TASKS`. That gives `fastgru train name` with all its options, --resume and --overwrite,
   and `fastgru evaluate` and `predict` find the task from the run's train.json or the model's config.json.
5. Its columns in metrics.csv are `train_*` and `validation_*` values that the module logs; each pair is drawn.
"""
