#!/usr/bin/env bash
# Submit a job to Kubernetes and print its name: submit.sh CPUS MB MINUTES GPUS SCRIPT
set -euo pipefail
cpus=$1 mb=$2 minutes=$3 gpus=$4 script=$5

image=wsss:latest claim=wsss mount=/data gpu=nvidia.com/gpu
site=$(dirname "$0")/site.sh
if [ -f "$site" ]; then . "$site"; fi

# an extended resource stands among the limits; memory that is asked for is a limit, too, so that a job is killed and not its node
kubectl create -o 'jsonpath={.metadata.name}' -f - <<END
apiVersion: batch/v1
kind: Job
metadata:
  generateName: wsss-
  labels: {app: wsss}
spec:
  backoffLimit: 0                       # Snakemake tries again
  activeDeadlineSeconds: $((minutes * 60))
  ttlSecondsAfterFinished: 86400
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 120
      containers:
        - name: wsss
          image: "$image"
          command:  # the first process of a pod alone is told of its end: it tells all others, and waits for their checkpoint
            - bash
            - -c
            - |
              trap 'trap "" TERM; kill -TERM 0' TERM
              echo $(base64 -w0 "$script") | base64 -d > /tmp/job
              bash -c 'trap : TERM; . /tmp/job' &
              until wait \$!; code=\$?; ! kill -0 \$! 2> /dev/null; do :; done
              exit \$code
          resources:
            requests: {cpu: "$cpus", memory: "${mb}M"}
            limits: {memory: "${mb}M"$([ "$gpus" -gt 0 ] && echo ", \"$gpu\": \"$gpus\"" || true)}
          volumeMounts:
            - {name: data, mountPath: "$mount"}
            - {name: shm, mountPath: /dev/shm}
      volumes:
        - {name: data, persistentVolumeClaim: {claimName: "$claim"}}
        - {name: shm, emptyDir: {medium: Memory}}  # loader processes hand over images in it
END
