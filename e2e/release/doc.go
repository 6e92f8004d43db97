// Package release checks that what is said of versions is what the code says.
package release
