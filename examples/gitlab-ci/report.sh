#!/bin/sh
# report.sh PLAN: what a saved plan does, in the form of GitLab's `artifacts:reports:terraform`.
set -eu
terraform show -no-color "$1" | sed -nE \
    -e 's/^Plan: (.* to import, )?([0-9]+) to add, ([0-9]+) to change, ([0-9]+) to destroy.*/{"create":\2,"update":\3,"delete":\4}/p' \
    -e 's/^(No changes\..*|You can apply this plan to save these new output values.*)/{"create":0,"update":0,"delete":0}/p' |
    head -n 1
