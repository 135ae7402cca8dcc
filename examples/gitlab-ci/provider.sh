# Sourced by the jobs: tells Terraform where the provider comes from, a network mirror or this project's package registry.
: "${PROVIDER_VERSION:=0.1.0}"
export TF_CLI_CONFIG_FILE="$PWD/.terraformrc"
if [ -n "${PROVIDER_MIRROR:-}" ]; then
    source="network_mirror {
    url     = \"$PROVIDER_MIRROR\""
else
    case $(uname -m) in
        aarch64) platform=linux_arm64 ;;
        *) platform=linux_amd64 ;;
    esac
    zip=terraform-provider-groundwork_${PROVIDER_VERSION}_$platform.zip
    own=$PWD/.providers/registry.terraform.io/groundwork-tf/groundwork
    tofus=$PWD/.providers/registry.opentofu.org/groundwork-tf/groundwork # where OpenTofu looks
    mkdir -p "$own" "$tofus"
    [ -f "$own/$zip" ] || wget -q -O "$own/$zip" --header "JOB-TOKEN: $CI_JOB_TOKEN" \
        "$CI_API_V4_URL/projects/$CI_PROJECT_ID/packages/generic/terraform-provider-groundwork/$PROVIDER_VERSION/$zip"
    ln -f "$own/$zip" "$tofus/$zip"
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
