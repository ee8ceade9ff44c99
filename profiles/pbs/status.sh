#!/usr/bin/env bash
# Print what became of a job of PBS: running, success or failed. status.sh ID
cd .snakemake/pbs
job=$(readlink "$1")
code() { cat "$job.exit" 2> /dev/null; }
if [ -z "$(code)" ]; then
    state=$(qstat -f "$1" 2> /dev/null | sed -n 's/^[[:space:]]*job_state = //p')
    case $state in
        "") qstat > /dev/null 2>&1 || state=unknown ;; # the server does not answer: ask again later
    esac
    case $state in
        "" | C | F | X) sleep 10 ;; # it is over: its exit code, which a shared file system may show late, decides
        *) echo running && exit ;;
    esac
fi
if [ "$(code)" = 0 ]; then echo success; else echo failed; fi
