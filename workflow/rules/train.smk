# A run's settings, written beside its results, and the training of its networks.


rule configure:
    output:
        f"{HOME}/{{stage}}/config.yaml",
    log:
        f"{LOG}/configure_{{stage}}.log",
    wildcard_constraints:
        stage="|".join([*stages.CLOSURE, "deeplab", "segment", "metrics"]),
    localrule: True
    conda:
        ENV
    params:
        text=lambda w: yaml.safe_dump(
            plan.stage_config(w.dataset, w.paper, w.run, w.seed, w.stage)
        ),
    shell:
        "printf %s {params.text:q} > {output}"


rule train:
    input:
        config=f"{HOME}/train/config.yaml",
        index=f"{DATA}/index.csv",
        weights=weights("train"),
    output:
        model=f"{HOME}/train/model.pt",
        losses=f"{HOME}/train/losses.csv",
        record=f"{HOME}/train/record.json",
    log:
        f"{LOG}/train.log",
    conda:
        ENV
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=megabytes(16000),
        runtime=minutes(60, 1440),
    params:
        data=subpath(input.index, parent=True),
        out=subpath(output.model, parent=True),
        code=plan.code("train"),
    shell:
        "WSSS_THREADS={threads} wsss train --config {input.config} --data {params.data} --weights {input.weights}"
        f" --out {{params.out}} --device $DEVICE {TEE}"
