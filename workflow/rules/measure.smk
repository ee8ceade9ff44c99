# Comparing results with ground truth.


rule measure:
    input:
        config=f"{HOME}/metrics/config.yaml",
        index=f"{DATA}/index.csv",
        results=measured_shards,
    output:
        metrics=f"{HOME}/metrics/{{stage}}_{{split}}.json",
        record=f"{HOME}/metrics/{{stage}}_{{split}}.record.json",
    log:
        f"{LOG}/metrics_{{stage}}_{{split}}.log",
    wildcard_constraints:
        stage="|".join(stages.MEASURED),
        split="seed|val",
    conda:
        ENV
    resources:
        runtime=60,
    params:
        data=subpath(input.index, parent=True),
        kind=lambda w: stages.result_kind(w.stage),
        code=plan.code("metrics"),
    shell:
        "WSSS_THREADS={threads} wsss measure --config {input.config} --data {params.data}"
        " --{params.kind} {input.results} --part {wildcards.split}"
        f" --out {{output.metrics}} {TEE}"
