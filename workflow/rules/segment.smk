# DeepLab on the pseudo masks, or on ground truth for the upper bound.


rule deeplab:
    input:
        config=f"{HOME}/deeplab/config.yaml",
        index=f"{DATA}/index.csv",
        masks=learnt_from("deeplab"),
        weights=weights("deeplab"),
    output:
        model=f"{HOME}/deeplab/model.pt",
        losses=f"{HOME}/deeplab/losses.csv",
        record=f"{HOME}/deeplab/record.json",
    log:
        f"{LOG}/deeplab.log",
    conda:
        ENV
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=megabytes(24000),
        runtime=minutes(60, 1440),
    params:
        data=subpath(input.index, parent=True),
        out=subpath(output.model, parent=True),
        code=plan.code("deeplab"),
    shell:
        "WSSS_THREADS={threads} wsss deeplab --config {input.config} --data {params.data} --masks {input.masks}"
        " --weights {input.weights}"
        f" --out {{params.out}} --device $DEVICE {TEE}"


rule predict:
    input:
        config=f"{HOME}/segment/config.yaml",
        index=lambda w: f"{plan.data(w.dataset, w.part)}/index.csv",
        model=model("deeplab"),
    output:
        masks=f"{HOME}/segment/{SHARD}.zip",
        record=f"{HOME}/segment/{SHARD}.record.json",
    log:
        f"{LOG}/segment_{SHARD}.log",
    conda:
        ENV
    threads: beside_crf(lambda settings: settings["predict"]["crf"]["iterations"])
    resources:
        gpu=GPU,
        mem_mb=megabytes(12000),
        runtime=minutes(30, 720),
    params:
        data=subpath(input.index, parent=True),
        code=plan.code("segment"),
        threads=network_threads,
        workers=crf_processes,
    shell:
        "WSSS_THREADS={params.threads} wsss predict --config {input.config} --data {params.data} --model {input.model}"
        " --part {wildcards.part} --shard {wildcards.i}/{wildcards.n}"
        f" --out {{output.masks}} --device $DEVICE --workers {{params.workers}} {TEE}"


rule submission:
    input:
        index=f"{DATA}/test/index.csv",
        masks=lambda w: plan.shards(home(w, "segment"), "segment", w.dataset, "test"),
    output:
        archive=f"{HOME}/submission/results.tgz",
        record=f"{HOME}/submission/results.record.json",
    log:
        f"{LOG}/submission.log",
    conda:
        ENV
    resources:
        runtime=30,
    params:
        data=subpath(input.index, parent=True),
        code=plan.code("submission"),
    shell:
        f"wsss submission --data {{params.data}} --masks {{input.masks}} --out {{output.archive}} {TEE}"


for paper, run in plan.submissions():

    rule:
        name:
            f"submission_{paper}_{run}"
        input:
            submitted(paper, run),
        localrule: True

    workflow.get_rule(f"submission_{paper}_{run}").docstring = (
        f"Test images segmented by {paper}/{run}, packed for the VOC server"
    )
