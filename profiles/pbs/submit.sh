#!/usr/bin/env bash
# Submit a job to PBS and print its id: submit.sh CPUS MB MINUTES GPUS SCRIPT
set -euo pipefail
cpus=$1 mb=$2 minutes=$3 gpus=$4 script=$5

cpu_options=() gpu_options=()
site=$(dirname "$0")/site.sh
if [ -f "$site" ]; then . "$site"; fi
request() { # what is asked for, in the words of PBS Pro and OpenPBS
    echo "select=1:ncpus=$cpus:mem=${mb}mb$([ "$gpus" -gt 0 ] && echo ":ngpus=$gpus" || true)"
}
if [ "${dialect:-pbs}" = torque ]; then
    request() { echo "nodes=1:ppn=$cpus$([ "$gpus" -gt 0 ] && echo ":gpus=$gpus" || true),mem=${mb}mb"; }
fi
if [ "$gpus" -gt 0 ]; then options=("${gpu_options[@]}"); else options=("${cpu_options[@]}"); fi

# Snakemake's script goes to a folder that all nodes see; its exit code lands beside it, since PBS soon forgets a job
mkdir -p .snakemake/pbs
job=$(mktemp "$PWD/.snakemake/pbs/job.XXXXXXXX")
cp "$script" "$job.sh"
cat > "$job" <<END
#!/bin/bash
trap : TERM # PBS tells all processes of a job of its end: this one waits while a training writes a checkpoint
rm -f $(printf %q "$job.exit")
bash -c 'trap : TERM; . "\$0"' $(printf %q "$job.sh") < /dev/null
code=\$?
echo \$code > $(printf %q "$job.exit")
exit \$code
END
id=$(qsub -N wsss -r y -j oe -o "$job.log" -l "$(request),walltime=$minutes:00" "${options[@]}" "$job")
ln -sf "$job" ".snakemake/pbs/$id"
echo "$id"
