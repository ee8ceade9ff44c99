# From scores to pseudo masks: dense CRF, AffinityNet and random walk, IRNet.


rule crf:
    input:
        config=f"{HOME}/crf/config.yaml",
        index=f"{DATA}/index.csv",
        scores=same_shard("seed", "npz"),
    output:
        scores=f"{HOME}/crf/{SHARD}.npz",
        record=f"{HOME}/crf/{SHARD}.record.json",
    log:
        f"{LOG}/crf_{SHARD}.log",
    conda:
        ENV
    threads: config["workers"]
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(30, 360),
    params:
        data=subpath(input.index, parent=True),
        code=plan.code("crf"),
    shell:
        "WSSS_THREADS=1 wsss crf --config {input.config} --data {params.data} --scores {input.scores}"
        " --part {wildcards.part} --shard {wildcards.i}/{wildcards.n}"
        f" --out {{output.scores}} --workers {{threads}} {TEE}"


rule affinity:
    input:
        config=f"{HOME}/affinity/config.yaml",
        index=f"{DATA}/index.csv",
        scores=learnt_from("affinity"),
        weights=weights("affinity"),
    output:
        model=f"{HOME}/affinity/model.pt",
        losses=f"{HOME}/affinity/losses.csv",
        record=f"{HOME}/affinity/record.json",
    log:
        f"{LOG}/affinity.log",
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
        code=plan.code("affinity"),
    shell:
        "WSSS_THREADS={threads} wsss affinity --config {input.config} --data {params.data} --scores {input.scores}"
        " --weights {input.weights}"
        f" --out {{params.out}} --device $DEVICE {TEE}"


rule walk:
    input:
        config=f"{HOME}/walk/config.yaml",
        index=f"{DATA}/index.csv",
        scores=same_shard("seed", "npz"),
        model=model("affinity"),
    output:
        masks=f"{HOME}/walk/{SHARD}.zip",
        record=f"{HOME}/walk/{SHARD}.record.json",
    log:
        f"{LOG}/walk_{SHARD}.log",
    conda:
        ENV
    threads: beside_crf(lambda settings: settings["walk"]["crf"])
    resources:
        gpu=GPU,
        mem_mb=megabytes(12000),
        runtime=minutes(30, 720),
    params:
        data=subpath(input.index, parent=True),
        code=plan.code("walk"),
        threads=network_threads,
        workers=crf_processes,
    shell:
        "WSSS_THREADS={params.threads} wsss walk --config {input.config} --data {params.data} --scores {input.scores}"
        " --model {input.model} --part {wildcards.part} --shard {wildcards.i}/{wildcards.n}"
        f" --out {{output.masks}} --device $DEVICE --workers {{params.workers}} {TEE}"


rule irn_labels:
    input:
        config=f"{HOME}/irn_labels/config.yaml",
        index=f"{DATA}/index.csv",
        scores=same_shard("seed", "npz"),
    output:
        masks=f"{HOME}/irn_labels/{SHARD}.zip",
        record=f"{HOME}/irn_labels/{SHARD}.record.json",
    log:
        f"{LOG}/irn_labels_{SHARD}.log",
    conda:
        ENV
    threads: config["workers"]
    resources:
        mem_mb=megabytes(8000),
        runtime=minutes(30, 360),
    params:
        data=subpath(input.index, parent=True),
        code=plan.code("irn_labels"),
    shell:
        "WSSS_THREADS=1 wsss irn-labels --config {input.config} --data {params.data} --scores {input.scores}"
        " --part {wildcards.part} --shard {wildcards.i}/{wildcards.n}"
        f" --out {{output.masks}} --workers {{threads}} {TEE}"


rule irnet:
    input:
        config=f"{HOME}/irnet/config.yaml",
        index=f"{DATA}/index.csv",
        masks=learnt_from("irnet"),
        weights=weights("irnet"),
    output:
        model=f"{HOME}/irnet/model.pt",
        losses=f"{HOME}/irnet/losses.csv",
        record=f"{HOME}/irnet/record.json",
    log:
        f"{LOG}/irnet.log",
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
        code=plan.code("irnet"),
    shell:
        "WSSS_THREADS={threads} wsss irnet --config {input.config} --data {params.data} --masks {input.masks}"
        " --weights {input.weights}"
        f" --out {{params.out}} --device $DEVICE {TEE}"


rule irn:
    input:
        config=f"{HOME}/irn/config.yaml",
        index=f"{DATA}/index.csv",
        scores=same_shard("seed", "npz"),
        model=model("irnet"),
    output:
        masks=f"{HOME}/irn/{SHARD}.zip",
        record=f"{HOME}/irn/{SHARD}.record.json",
    log:
        f"{LOG}/irn_{SHARD}.log",
    conda:
        ENV
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=megabytes(12000),
        runtime=minutes(30, 720),
    params:
        data=subpath(input.index, parent=True),
        code=plan.code("irn"),
    shell:
        "WSSS_THREADS={threads} wsss irn --config {input.config} --data {params.data} --scores {input.scores}"
        " --model {input.model} --part {wildcards.part} --shard {wildcards.i}/{wildcards.n}"
        f" --out {{output.masks}} --device $DEVICE {TEE}"


rule irn_instances:
    input:
        config=f"{HOME}/irn_instances/config.yaml",
        index=f"{DATA}/index.csv",
        scores=same_shard("seed", "npz"),
        model=model("irnet"),
    output:
        instances=f"{HOME}/irn_instances/{SHARD}.npz",
        record=f"{HOME}/irn_instances/{SHARD}.record.json",
    log:
        f"{LOG}/irn_instances_{SHARD}.log",
    conda:
        ENV
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=megabytes(12000),
        runtime=minutes(30, 720),
    params:
        data=subpath(input.index, parent=True),
        code=plan.code("irn_instances"),
    shell:
        "WSSS_THREADS={threads} wsss irn-instances --config {input.config} --data {params.data} --scores {input.scores}"
        " --model {input.model} --part {wildcards.part} --shard {wildcards.i}/{wildcards.n}"
        f" --out {{output.instances}} --device $DEVICE {TEE}"
