"""Turns recorded sessions into LeRobot v3.0 datasets"""
