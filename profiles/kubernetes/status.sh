#!/usr/bin/env bash
# Print what became of a job of Kubernetes: running, success or failed. status.sh NAME
if ! found=$(kubectl get job "$1" -o 'jsonpath={.status.conditions[?(@.status=="True")].type}' 2>&1); then
    case $found in
        *NotFound*) echo failed ;; # it was deleted
        *) echo running ;;         # the server does not answer: ask again later
    esac
    exit
fi
case $found in
    *Complete*) echo success ;;
    *Failed*) echo failed ;;
    *) echo running ;;
esac
