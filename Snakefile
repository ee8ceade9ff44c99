# Five papers on weakly supervised semantic segmentation, from images to tables. To see what can be made: snakemake --list
from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/project.smk"


configfile: OWN_CONFIG


if "ON_CLUSTER" in globals():  # slurm/cluster.smk names it

    configfile: ON_CLUSTER


if IS_MODULE:
    config = configuration_of_module(config)


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


rule all:
    """What is made when no target is named, and the page that shows it."""
    input:
        files_of(MADE_BY_DEFAULT),
        f"{RESULTS}/{DATASET}/report/index.html",
    localrule: True


onsuccess:
    stop_waiting()
    print(where_results_are())
    it_is_over("done")


onerror:
    stop_waiting()
    it_is_over("failed")


include: "workflow/rules/data.smk"
include: "workflow/rules/stages.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/report.smk"
