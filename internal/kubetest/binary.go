package kubetest

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluicegw/sluice/internal/testenv"
)

//go:generate sh -c "../../tools/kubebox/build.sh key >kubebox.key"

// key is that of the sources of the kubebox that this package was written for.
//
//go:embed kubebox.key
var key string

// Environment variable with the path of a kubebox, in place of the one in the
// user's cache folder.
const binaryVariable = "SLUICE_KUBEBOX"

// Binary finds kubebox.
func Binary() (string, error) {
	path := os.Getenv(binaryVariable)
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find kubebox: %w", err)
		}
		path = filepath.Join(cache, "sluice", "kubebox-"+strings.TrimSpace(key), "kubebox")
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find kubebox: %w (tools/kubebox/build.sh builds it, once, in minutes)", err)
	}
	return path, nil
}

// Require ends the test unless kubebox has been built: it is skipped, or failed
// where the machine promises to have everything.
func Require(t testenv.TB) {
	t.Helper()
	if _, err := Binary(); err != nil {
		testenv.Missing(t, "%v", err)
	}
}
