# The workflow on one machine with GPUs: `snakemake --profile profiles/gpus` starts here. It is the project's Snakefile, with the
# papers' data in place of the drawn ones. Each job takes its own GPUs (workflow/wsss/gpus.py).
ON_CLUSTER = f"{workflow.basedir}/gpus.yaml"  # a configuration between the project's own and that of a user


include: "../../Snakefile"


workflow.default_target = "all"  # which a file that is included does not set
