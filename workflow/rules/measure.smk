# Compare results with ground truth. Pack results of test images for a server that compares them.


rule measure:
    """Compare a stage's result with ground truth."""
    input:
        config=f"{HOME}/measure/config.yaml",
        index=f"{DATA}/index.csv",
        results=measured_shards,
    output:
        metrics=f"{HOME}/measure/{{stage}}_{{images}}.json",
        record=f"{HOME}/measure/{{stage}}_{{images}}.record.json",
    log:
        f"{LOG}/measure_{{stage}}_{{images}}.log",
    wildcard_constraints:
        stage="|".join(MEASURED),
        images="measured|val",
    conda:
        ENV
    resources:
        turn=1,
        mem_mb=megabytes("measure"),
        runtime=minutes("measure"),
    params:
        data=subpath(input.index, parent=True),
        kind=signed(lambda w: STAGES[w.stage].makes),
    shell:
        "WSSS_THREADS={threads} wsss measure --config {input.config:q} --data {params.data:q}"
        " --stage {wildcards.stage} --images {wildcards.images} --{params.kind} {input.results:q}"
        f" --out {{output.metrics:q}} {TEE}"


rule submission:
    """Pack the predictions of a run for VOC's test images."""
    input:
        config=f"{HOME}/submission/config.yaml",
        index=f"{DATA}/test/index.csv",
        masks=lambda w: plan.shards(home(w, "predict"), "predict", w.dataset, "test"),
    output:
        archive=f"{HOME}/submission/results.tgz",
        record=f"{HOME}/submission/results.record.json",
    log:
        f"{LOG}/submission.log",
    conda:
        ENV
    resources:
        mem_mb=megabytes("submission"),
        runtime=minutes("submission"),
    params:
        data=subpath(input.index, parent=True),
    shell:
        "wsss submission --config {input.config:q} --data {params.data:q} --masks {input.masks:q}"
        f" --out {{output.archive:q}} {TEE}"


for paper, run in plan.submissions():

    rule:
        name:
            f"submission_{paper}_{run}"
        input:
            submitted(paper, run),
        localrule: True

    describe(
        f"submission_{paper}_{run}",
        f"Test images segmented by {paper}/{run}, packed for the VOC server",
    )
