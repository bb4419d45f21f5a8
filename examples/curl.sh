#!/bin/sh
# Ask a server of `lpt serve` with curl:  sh examples/curl.sh http://127.0.0.1:8000 PACK photo.jpg
# A token is read from the environment variable LPT_TOKEN.
set -eu
url=$1 pack=$2 photo=$3

ask() {
    if [ -n "${LPT_TOKEN:-}" ]; then
        curl --silent --show-error --fail-with-body --header "Authorization: Bearer $LPT_TOKEN" "$@"
    else
        curl --silent --show-error --fail-with-body "$@"
    fi
    echo
}

ask "$url/v1/packs"                                                        # what there is
ask "$url/v1/packs/$pack/predict?top_k=3" \
    --header "Content-Type: application/octet-stream" --data-binary "@$photo"      # an image as it is
ask "$url/v1/packs/$pack/predict" --form "images=@$photo" --form "images=@$photo" --form top_k=3      # several
ask "$url/v1/predict" --form "packs=$pack" --form "images=@$photo"                 # several packs: repeat packs=
