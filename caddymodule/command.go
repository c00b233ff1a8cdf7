package caddymodule

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "device",
		Short: "Gives phones their provisioning profiles by their factory certificates",
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(newDemoCommand(), newInspectCommand(), newCSRCommand(), newInstallCommand(), newSitesCommand())
		},
	})
}
