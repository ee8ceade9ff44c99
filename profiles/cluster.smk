# The workflow on a cluster that is not Slurm: the project's Snakefile, with the papers' data in place of the drawn ones.
import os

ON_CLUSTER = f"{workflow.basedir}/../slurm/voc12.yaml"
os.environ["WSSS_PROFILES"] = (
    workflow.basedir
)  # where the commands are that submit jobs


include: "../Snakefile"


workflow.default_target = "all"  # which a file that is included does not set


onstart:
    try:
        check_disk()
    except WsssError as error:
        raise WorkflowError(str(error))
