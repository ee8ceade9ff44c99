# The workflow on a Slurm cluster: `snakemake --profile slurm` starts here. It is the project's Snakefile, with the papers' data in
# place of the drawn ones. slurm/site.yaml says what this cluster is like.
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir).parent / "workflow"))

from wsss import cluster
from wsss.errors import WsssError

ON_CLUSTER = f"{workflow.basedir}/voc12.yaml"  # a configuration between the project's own and that of a user
try:
    SITE = cluster.load_site(Path(workflow.basedir))
except WsssError as error:
    raise WorkflowError(str(error))


include: "../Snakefile"


workflow.default_target = "all"  # an included file does not set it


if workflow.is_main_process:
    for its_rule in workflow.rules:
        if (its_record := its_rule.output.get("record")) is None:
            continue
        cluster.fit(
            its_rule.resources,
            SITE,
            trains=its_rule.name in TRAINED,
            record=(
                None
                if its_rule.name in workflow.group_settings.overwrite_groups
                else lambda w, record=its_record: record.apply_wildcards(w)
            ),
        )


onstart:
    try:
        cluster.check(SITE, config["gpus"], (os.getcwd(), workflow.basedir))
        check_disk()
        if cancelled := cluster.cancel_orphans(os.getcwd()):
            logger.info(
                f"Cancelled, left by a controller that was lost: jobs {', '.join(cancelled)}. Trainings go on from their checkpoints."
            )
    except WsssError as error:
        raise WorkflowError(str(error))
