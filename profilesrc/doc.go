// Package profilesrc gives phones' profiles by name, from wherever an operator
// keeps them.
//
// A [Source] is asked with a [Name], which only [NewName] makes, so that no
// source ever sees a path that leads out of its place. [Files] serves a folder
// or a file system, [TFTP] what a TFTP server has; a [Chain] asks several
// sources in order.
package profilesrc
