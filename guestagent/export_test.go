package guestagent

// WaitStill is for the tests outside of the package.
var WaitStill = waitStill
