# CAM scores of the images, scattered over shards.


rule localize:
    input:
        config=f"{HOME}/seed/config.yaml",
        index=f"{DATA}/index.csv",
        model=model("train"),
    output:
        scores=f"{HOME}/seed/{SHARD}.npz",
        record=f"{HOME}/seed/{SHARD}.record.json",
    log:
        f"{LOG}/seed_{SHARD}.log",
    conda:
        ENV
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=megabytes(12000),
        runtime=minutes(30, 720),
    params:
        data=subpath(input.index, parent=True),
        code=plan.code("seed"),
    shell:
        "WSSS_THREADS={threads} wsss localize --config {input.config} --data {params.data} --model {input.model}"
        " --part {wildcards.part} --shard {wildcards.i}/{wildcards.n}"
        f" --out {{output.scores}} --device $DEVICE {TEE}"
