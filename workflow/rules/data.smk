# Images and the index table that names, checks and hashes them.


rule configure_data:
    """The settings of a data set's index and the digest of the code that builds it."""
    output:
        f"{DATA}/config.yaml",
    log:
        f"{RESULTS}/logs/{{dataset}}/configure_data.log",
    localrule: True
    conda:
        ENV
    params:
        text=lambda w: as_yaml(plan.data_config(w.dataset)),
    shell:
        "printf %s {params.text:q} > {output:q}"


rule index:
    """Build the table of a data set's images and check every file."""
    input:
        config=f"{DATA}/config.yaml",
        source=lambda w: plan.data_source(w.dataset),
    output:
        index=f"{DATA}/index.csv",
        about=f"{DATA}/dataset.json",
        record=f"{DATA}/record.json",
    log:
        f"{RESULTS}/logs/{{dataset}}/index.log",
    conda:
        ENV
    resources:
        mem_mb=megabytes("index"),
        runtime=minutes("index"),
    params:
        out=subpath(output.index, parent=True),
    shell:
        f"wsss index --config {{input.config:q}} --out {{params.out:q}} {TEE}"


use rule configure_data as configure_test with:
    output:
        f"{DATA}/test/config.yaml",
    log:
        f"{RESULTS}/logs/{{dataset}}/configure_test.log",
    params:
        text=lambda w: as_yaml(plan.test_config(w.dataset)),


use rule index as index_test with:
    input:
        config=f"{DATA}/test/config.yaml",
        source=lambda w: plan.data_source(w.dataset, test=True),
    output:
        index=f"{DATA}/test/index.csv",
        about=f"{DATA}/test/dataset.json",
        record=f"{DATA}/test/record.json",
    log:
        f"{RESULTS}/logs/{{dataset}}/index_test.log",


rule download:
    """Fetch, verify and unpack a public data set."""
    output:
        touch(f"{RESULTS}/downloads/{{name}}/.complete"),
    log:
        f"{RESULTS}/logs/download_{{name}}.log",
    wildcard_constraints:
        name="voc2012|voc2012-test|sbd",
    localrule: True
    conda:
        ENV
    resources:
        runtime=360,
    params:
        out=lambda w: f"{RESULTS}/downloads/{w.name}",
    shell:
        f"wsss download {{wildcards.name}} --out {{params.out:q}} {TEE}"


rule augment:
    """Derive VOC's train_aug list and masks from VOC 2012 and SBD."""
    input:
        f"{RESULTS}/downloads/voc2012/.complete",
        f"{RESULTS}/downloads/sbd/.complete",
    output:
        touch(f"{RESULTS}/downloads/voc12/.complete"),
    log:
        f"{RESULTS}/logs/augment.log",
    conda:
        ENV
    resources:
        runtime=60,
    params:
        downloads=lambda w, input: Path(input[0]).parent.parent,
    shell:
        f"wsss augment --voc {{params.downloads:q}}/voc2012 --sbd {{params.downloads:q}}/sbd"
        f" --out {{params.downloads:q}}/voc12 {TEE}"
