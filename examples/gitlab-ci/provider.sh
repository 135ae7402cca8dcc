# Sourced by the jobs: tells Terraform where the provider comes from, a network mirror or this project's package registry.
: "${PROVIDER_VERSION:=0.1.0}"
export TF_CLI_CONFIG_FILE="$PWD/.terraformrc"
if [ -n "${PROVIDER_MIRROR:-}" ]; then
    source="network_mirror {
    url     = \"$PROVIDER_MIRROR\""
else
    folder=$PWD/.providers/registry.terraform.io/groundwork-tf/groundwork
    zip=terraform-provider-groundwork_${PROVIDER_VERSION}_linux_amd64.zip
    mkdir -p "$folder"
    [ -f "$folder/$zip" ] || wget -q -O "$folder/$zip" --header "JOB-TOKEN: $CI_JOB_TOKEN" \
        "$CI_API_V4_URL/projects/$CI_PROJECT_ID/packages/generic/terraform-provider-groundwork/$PROVIDER_VERSION/$zip"
    source="filesystem_mirror {
    path    = \"$PWD/.providers\""
fi
cat > "$TF_CLI_CONFIG_FILE" <<RC
provider_installation {
  $source
    include = ["groundwork-tf/groundwork"]
  }
  direct {
    exclude = ["groundwork-tf/groundwork"]
  }
}
RC
