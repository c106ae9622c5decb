package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/spf13/cobra"
)

// serveRegistry is the component `registry`. Images are loaded into nodes, not
// pulled; what is pulled nevertheless fails, and this is what makes it fail as a
// real registry would.
func (a *app) serveRegistry() *cobra.Command {
	var empty, private string
	command := &cobra.Command{
		Use:    "serve-registry",
		Short:  "Serve a registry without images, and one that lets nobody in",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			quiet := registry.Logger(log.New(os.Stderr, "", log.LstdFlags))
			return serve(cmd.Context(), map[string]http.Handler{
				empty:   registry.New(quiet),
				private: http.HandlerFunc(unauthorized),
			})
		},
	}
	command.Flags().StringVar(&empty, "empty", "", "address of the registry without images")
	command.Flags().StringVar(&private, "private", "", "address of the registry that lets nobody in")
	return command
}

// unauthorized answers as the distribution specification asks for, with a
// challenge that no credentials of the lab can meet.
func unauthorized(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`))
}

// serve serves until the context ends or a server fails.
func serve(ctx context.Context, handlers map[string]http.Handler) error {
	failed := make(chan error, len(handlers))
	for address, handler := range handlers {
		server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
		defer server.Close()
		go func() { failed <- server.ListenAndServe() }()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}
}
