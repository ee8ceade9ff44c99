# The stages of a run. All stages that store results image by image are one rule here, all trainings another: each row of
# workflow/wsss/stages.py fills them in. A command is put together when its job runs, so the loop's variable reaches it as a
# parameter.


rule configure:
    """The settings of a stage and the digest of its code, written beside its results."""
    output:
        f"{HOME}/{{stage}}/config.yaml",
    log:
        f"{LOG}/configure_{{stage}}.log",
    wildcard_constraints:
        stage="|".join(OF_A_RUN),
    localrule: True
    conda:
        ENV
    params:
        text=signed(
            lambda w: sections_as_yaml(plan.stage_config(run_of(w), w.seed, w.stage))
        ),
    shell:
        "printf %s {params.text:q} > {output:q}"


for stage in IN_SHARDS:

    rule:
        name:
            stage
        input:
            config=f"{HOME}/{stage}/config.yaml",
            index=signed(lambda w: f"{plan.data(w.dataset, w.part)}/index.csv"),
            scores=same_shard(stage),
            model=model(stage),
        output:
            result=result(stage),
            record=f"{HOME}/{stage}/{SHARD}.record.json",
        log:
            f"{LOG}/{stage}_{SHARD}.log",
        priority: further_along(stage)
        conda:
            ENV
        threads: threads(stage)
        resources:
            turn=4,  # all four of a submission's turns (slurm/config.yaml): one job at a time, also without a GPU
            gpu=gpus(stage),
            mem_mb=megabytes(stage),
            runtime=minutes(stage),
        params:
            stage=stage,
            data=subpath(input.index, parent=True),
            reads=reads(stage),
            threads=network_threads(stage),
            workers=processes(stage),
        shell:
            "WSSS_GPUS={resources.gpu} WSSS_THREADS={params.threads}"
            " wsss {params.stage} --config {input.config:q} --data {params.data:q} {params.reads}"
            " --part {wildcards.part} --shard {wildcards.i}/{wildcards.n}"
            f" --out {{output.result:q}} --device $DEVICE --workers {{params.workers}}"
            f" --loaders $LOADERS --batch $BATCH $DETERMINISTIC {TEE}"

    describe(stage, STAGES[stage].help)


for stage in TRAINED:

    rule:
        name:
            stage
        input:
            config=f"{HOME}/{stage}/config.yaml",
            index=f"{DATA}/index.csv",
            learnt=learnt_from(stage),
            weights=weights(stage),
        output:
            model=f"{HOME}/{stage}/model.pt",
            losses=f"{HOME}/{stage}/losses.csv",
            record=f"{HOME}/{stage}/record.json",
        log:
            f"{LOG}/{stage}.log",
        priority: further_along(stage)
        conda:
            ENV
        threads: threads(stage)
        resources:
            gpu=gpus(stage),
            mem_mb=megabytes(stage),
            runtime=minutes(stage),
        params:
            stage=stage,
            data=subpath(input.index, parent=True),
            out=subpath(output.model, parent=True),
            learns=learns(stage),
        shell:
            "WSSS_GPUS={resources.gpu} WSSS_THREADS={threads}"
            " wsss {params.stage} --config {input.config:q} --data {params.data:q} {params.learns}"
            " --weights {input.weights:q}"
            f" --out {{params.out:q}} --device $DEVICE --loaders $LOADERS --checkpoint-minutes $CHECKPOINT_MINUTES"
            f" $DETERMINISTIC $COMPILE {TEE}"

    describe(stage, STAGES[stage].help)
